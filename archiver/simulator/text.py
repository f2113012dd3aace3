"""What people write: seeded texts in many languages, with code, links, emoji, odd characters."""

from random import Random

_ENGLISH = (
    "the build is green again",
    "can someone look at the logs",
    "deploying to staging now",
    "lunch?",
    "done",
    "I think we should roll back",
    "that test is flaky",
    "nice work everyone",
    "who owns this service",
    "looks good to me",
    "the certificate expires on Friday",
    "let us talk after standup",
    "reproduced it",
    "works on my machine",
    "the migration took four hours",
    "merging",
    "on it",
    "see the attached screenshot",
    "we lost the connection for a minute",
    "it's the cache, as always",
    "back in ten minutes",
)
_OTHERS = {
    "fi": "huomenta kaikille|käynnistin palvelimen uudelleen|näyttää hyvältä|mennäänkö syömään|"
    "tietokanta on jumissa|korjasin äsken tuon virheen|hyvää viikonloppua",
    "de": "guten Morgen|das Skript läuft nicht mehr|größere Änderungen am Grundgerüst|"
    "ich schaue später nach|Überprüfung abgeschlossen|schönes Wochenende",
    "ja": "おはようございます|"
    "サーバーを再起動しました|ビルドが失敗しています。|確認お願いします\uff01|"
    "会議は午後三時からです|お疲れ様でした",
    "ru": "доброе утро|сборка снова упала|посмотрю после обеда|кто сломал тесты?|всё готово|"
    "нужно обновить документацию",
    "ar": "صباح الخير|تم إصلاح الخطأ|الاجتماع بعد ساعة|شكرا جزيلا لكم|هل الخادم يعمل الآن؟",
    "zh": "早上好|服务器已经重启|测试没有通过|我下午再看一下|会议改到明天",
}
_LANGUAGES = tuple(tuple(lines.split("|")) for lines in _OTHERS.values())
_EMOJI = ("👍", "🎉", "😀", "🔥", "👩‍💻", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👋🏽", "🇫🇮", "❤️", "🤷🏻‍♀️", "🚀")
_CODE = (
    "qwen3.6",
    "C++20",
    "foo_bar()",
    "libpq.so.5",
    "HTTP/2",
    "std::vector<int>",
    "snake_case_name",
    "v2.10.0-rc1",
    "ERROR 1045 (28000)",
    "`git rebase -i HEAD~3`",
    "a && b || c",
    "node.js",
    "#!/bin/sh",
    "C#",
    ".NET",
    "user@host:~$",
    "SELECT * FROM t WHERE a <> 'b';",
    '{"key": [1, 2]}',
    "50%",
    "\\d+",
)
_LINKS = (
    "https://github.com/acme/component/pull/42",
    "http://example.com/a?b=c&d=%20e#f",
    "example.org",
    "https://ja.wikipedia.org/wiki/日本",
    "http://127.0.0.1:3000/",
    "https://example.com/Primer_(film)",
)
_HASHTAGS = (
    "#todo",
    "#Todo",
    "#feedback",
    "#bug",
    "#café",
    "#日本語",
    "#release-1",
    "#16",
    "#ops_team",
)
_ODD = (
    "line\u2028separator",
    "paragraph\u2029separator",
    "next\u0085line",
    "e\u0301\u0302\u0323 combining",
    "nul \u0000 inside",
    "bell \u0007",
    "form\u000cfeed",
    "vertical\u000btab",
    "\ufeffmark",
    "\U0001d54f\U0001d550\U0001d56b",
    "🀄︎",
    "\u202eright to left\u202c",
    "zero\u200bwidth",
    "Z͑ͫ̓ͪ̂ͫa̴l̷g̶o",
    "tab\tand\nnewline",
    "a\rcarriage",
    "𠜎𠜱𠝹",
    "ﬁ ligature",
    "<script>alert(1)</script>",
    "&amp; &lt;",
    "'; DROP TABLE messages; --",
    "\\u0041",
    "null",
    "0",
    "\uff21\uff22\uff23",
)

LONGEST = 8096


_EXTRAS: tuple[tuple[float, str, tuple[str, ...]], ...] = (
    (0.60, "{text}", ("",)),
    (0.70, "{text} {extra}", _EMOJI),
    (0.78, "{text} {extra}", _CODE),
    (0.84, "@{nick} {text}", ("",)),
    (0.89, "{text} {extra}", _HASHTAGS),
    (0.94, "{text} {extra}", _LINKS),
    (0.97, "{text} {extra}", _ODD),
    (1.00, "@{extra} {text}", ("all", "team", "everyone")),
)
"""By the upper bound of a draw: the form of a sentence, and the additions to choose from."""


def sentence(chance: Random, nicks: tuple[str, ...]) -> str:
    """Return a short text: mostly plain, sometimes with something that is hard to handle."""
    pick = chance.random()
    lines = _ENGLISH if pick < 0.6 else _LANGUAGES[int(pick * 1000) % len(_LANGUAGES)]
    text = chance.choice(lines)
    draw = chance.random()
    if draw < _EXTRAS[0][0]:
        return text
    form, extras = next((form, extras) for below, form, extras in _EXTRAS if draw < below)
    return form.format(text=text, extra=chance.choice(extras), nick=chance.choice(nicks))


def message(chance: Random, nicks: tuple[str, ...]) -> str:
    """Return a message: a sentence, or now and then several lines, or very much text."""
    size = chance.random()
    if size < 0.9:
        return sentence(chance, nicks)
    if size < 0.995:
        lines = chance.randint(2, 6)
        return "\n".join(sentence(chance, nicks) for _ in range(lines))
    return " ".join(sentence(chance, nicks) for _ in range(chance.randint(60, 200)))[
        :LONGEST
    ].strip()


def emoji(chance: Random) -> str:
    """Return one emoji, of one code point or of many."""
    return chance.choice(_EMOJI)


def hashtag(chance: Random) -> str:
    """Return one tag as a person would put it on a message."""
    return chance.choice(_HASHTAGS)
