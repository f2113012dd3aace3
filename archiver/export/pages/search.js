// Search in the whole export: the texts are loaded and searched month by month, the newest first.
// Hits are inserted as text, never as HTML.
"use strict";
(() => {
  const form = document.getElementById("search");
  const state = document.getElementById("state");
  const hits = document.getElementById("hits");
  const most = 500;
  let run = 0;
  let take = null;
  window.archive = (rows) => take(rows);

  // Null if the file cannot be read.
  const load = (path) => new Promise((resolve) => {
    const script = document.createElement("script");
    let rows = null;
    take = (told) => { rows = told; };
    const done = () => { script.remove(); resolve(rows); };
    script.onload = done;
    script.onerror = done;
    script.src = path;
    document.head.append(script);
  });

  const told = () => new URLSearchParams(location.hash.slice(1));

  const show = (shard, [id, day, time, nick, text]) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = `${shard.path}/${day || "undated"}.html#m-${id}`;
    link.textContent = `${shard.title} ${day || ""} ${time}`;
    const who = document.createElement("b");
    who.textContent = ` ${nick} `;
    const said = document.createElement("div");
    said.dir = "auto";
    said.textContent = text;
    item.append(link, who, said);
    hits.append(item);
  };

  const search = async () => {
    const mine = ++run;
    const q = form.elements.q.value.trim().toLowerCase();
    const from = form.elements.from.value.trim().toLowerCase();
    const flow = form.elements.in.value;
    // A link from the list of people asks for one person by id, since several may share a nick.
    const by = told().get("by");
    const words = q.split(/\s+/).filter(Boolean);
    hits.replaceChildren();
    state.textContent = "";
    if (!words.length && !from && !by) return;
    const fits = ([, , , nick, text, user]) => {
      const lower = text.toLowerCase();
      const isFrom = by ? user === by : !from || nick.trim().toLowerCase() === from;
      return isFrom && words.every((word) => lower.includes(word));
    };
    const wanted = shards.filter((one) => !flow || one.flow === flow);
    let found = 0;
    let lost = 0;
    let month = [];
    for (const [number, shard] of wanted.entries()) {
      state.textContent = `${found} found, ${number} of ${wanted.length} months read`;
      const rows = await load(shard.data);
      if (mine !== run) return;
      lost += rows === null;
      for (const row of (rows || []).filter(fits).reverse()) {
        month.push({ shard, row, at: `${row[1]} ${row[2]}` });
      }
      // The hits of several flows in one month are sorted by time.
      month.sort((a, b) => (a.at < b.at) - (a.at > b.at));
      month.length = Math.min(month.length, most - found);
      if (shard.month === wanted[number + 1]?.month) continue;
      for (const one of month) show(one.shard, one.row);
      found += month.length;
      month = [];
      if (found >= most) break;
    }
    state.textContent = found >= most ? `the newest ${most} are shown` : `${found} found`;
    if (lost) state.textContent += `, but ${lost} of ${wanted.length} files could not be read`;
  };

  const read = () => {
    const asked = told();
    form.elements.q.value = asked.get("q") || "";
    form.elements.from.value = asked.get("from") || "";
    form.elements.in.value = asked.get("in") || "";
    search();
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const asked = new URLSearchParams();
    for (const name of ["q", "from", "in"]) {
      if (form.elements[name].value) asked.set(name, form.elements[name].value);
    }
    if (told().get("by") && told().get("from") === asked.get("from")) {
      asked.set("by", told().get("by"));
    }
    if (location.hash.slice(1) === asked.toString()) search();
    else location.hash = asked.toString();
  });
  addEventListener("hashchange", read);
  read();
})();
