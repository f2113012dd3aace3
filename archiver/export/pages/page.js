// Find in the page: messages without the text are hidden. In print, histories are expanded.
"use strict";
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
});
addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("filter");
  if (!form) return;
  form.hidden = false;
  const input = form.querySelector("input");
  const articles = [...document.querySelectorAll("article")];
  const find = () => {
    const wanted = input.value.trim().toLowerCase();
    let found = 0;
    for (const one of articles) {
      one.hidden = wanted !== "" && !one.textContent.toLowerCase().includes(wanted);
      found += !one.hidden;
    }
    form.querySelector("output").textContent = wanted ? `${found} of ${articles.length}` : "";
  };
  input.addEventListener("input", find);
  form.addEventListener("submit", (event) => event.preventDefault());
});
