"""The look of a report: one style sheet, for light and dark, wide and narrow.

All colors are variables. Text has a contrast of at least 4.5 to 1 with what is
behind it, in both looks.
"""

LIGHT = {
    "page": "#fbfaf7",
    "card": "#ffffff",
    "code": "#f1efe9",
    "line": "#dcd8cf",
    "text": "#22252b",
    "quiet": "#5c606a",
    "accent": "#1b4f8a",
    "fill": "#4a7ab0",
    "track": "#e6e3db",
    "range": "#14233a",
}
DARK = {
    "page": "#15171c",
    "card": "#1d2027",
    "code": "#272b34",
    "line": "#393e49",
    "text": "#e7e6e2",
    "quiet": "#a9aeb8",
    "accent": "#94bdee",
    "fill": "#4f83bd",
    "track": "#2e333d",
    "range": "#f2f2ef",
}
# Which variables are written on which others.
TEXT_COLORS = ("text", "quiet", "accent")
BACKGROUNDS = ("page", "card", "code")

_RULES = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 1.0625rem/1.6 "Segoe UI", system-ui, -apple-system, Roboto, Ubuntu,
    Cantarell, "Noto Sans", sans-serif; }
header, main { max-width: 60rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 3rem; }
main { padding-bottom: 3rem; }
h1, h2, h3 { font-family: Charter, "Bitstream Charter", "Iowan Old Style",
  "Palatino Linotype", Georgia, "DejaVu Serif", serif; line-height: 1.2;
  text-wrap: balance; }
h1 { font-size: 2.6rem; margin: 0; }
h2 { font-size: 1.75rem; margin: 0 0 .75rem; }
h3 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
p, ul.links { max-width: 44rem; margin: .75rem 0; }
a { color: var(--accent); text-underline-offset: .15em; }
a:focus-visible, [tabindex]:focus-visible {
  outline: 3px solid var(--accent); outline-offset: 2px; }
.lead { font-size: 1.25rem; line-height: 1.5; margin: 1rem 0; }
.quiet, figcaption { color: var(--quiet); font-size: .92rem; }
section { border-top: 1px solid var(--line); padding: 2rem 0 1rem;
  margin-top: 2rem; }

.highlights { list-style: none; padding: 0; margin: 2rem 0 0; display: grid;
  gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.highlights a { display: block; height: 100%; padding: .9rem 1rem;
  background: var(--card); border: 1px solid var(--line);
  border-top: 4px solid var(--fill); border-radius: .4rem;
  color: inherit; text-decoration: none; }
.highlights a:hover { border-color: var(--accent); }
.highlights strong { display: block; font-size: 1.7rem; line-height: 1.2;
  color: var(--accent); font-variant-numeric: tabular-nums; }
.highlights span { font-size: .92rem; line-height: 1.35; display: block;
  margin-top: .25rem; }

nav { margin: 2rem 0 0; padding: 1rem 1.25rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .4rem; }
nav h2 { font-size: 1.1rem; margin: 0 0 .25rem; }
nav ul { list-style: none; padding: 0; margin: 0; columns: 2 18rem;
  column-gap: 2.5rem; }
nav li { display: flex; justify-content: space-between; gap: 1rem;
  padding: .2rem 0; break-inside: avoid; }
nav span { color: var(--quiet); font-variant-numeric: tabular-nums; }

pre { margin: .75rem 0; padding: .65rem .85rem; background: var(--code);
  border-radius: .4rem; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font: .86em/1.45 ui-monospace, "SF Mono", Menlo, Consolas,
  "DejaVu Sans Mono", monospace; }
.word { white-space: nowrap; }

.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: .35rem 1.5rem .35rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--quiet); font-weight: 600; font-size: .88rem;
  border-bottom-width: 2px; }
tbody th { font-weight: 500; }
.number { text-align: right; font-variant-numeric: tabular-nums; }

figure { margin: 1.5rem 0; }
figcaption { margin-top: .5rem; max-width: 44rem; }
img { max-width: 100%; height: auto; }
.chart img { display: block; width: 100%; background: #fff;
  border: 1px solid var(--line); border-radius: .4rem; padding: .5rem; }

.shares > figcaption { margin: 0 0 .75rem; font-weight: 600; font-size: 1rem;
  color: var(--text); }
.shares ul { list-style: none; margin: 0; padding: 0; }
.shares li { display: grid; gap: .1rem 1rem; align-items: center;
  grid-template-columns: 15rem 1fr 17.5rem; padding: .4rem 0; }
.track { position: relative; height: 1.5rem; background: var(--track);
  border-radius: .2rem; }
.fill, .range { position: absolute; top: 0; bottom: 0; }
.fill { left: 0; background: var(--fill); border-radius: .2rem; }
.range { top: 50%; bottom: auto; height: 0; margin-top: -1px;
  border-top: 2px solid var(--range); }
.range::before, .range::after { content: ""; position: absolute; top: -6px;
  height: 10px; border-left: 2px solid var(--range); }
.range::before { left: 0; }
.range::after { right: 0; }
.value { font-variant-numeric: tabular-nums; white-space: nowrap; }
.value strong { display: inline-block; min-width: 4.1rem; }

.cards { display: grid; gap: 1rem; margin: 1.25rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line);
  border-radius: .4rem; padding: 1rem 1.1rem; min-width: 0; margin: 0; }
.card h3 { margin: 0; }
.card blockquote { margin: .6rem 0; padding: .1rem 0 .1rem .9rem;
  border-left: 4px solid var(--fill); white-space: pre-wrap;
  overflow-wrap: anywhere; max-height: 13rem; overflow-y: auto; }
.card pre { margin-bottom: 0; font-size: .92rem; }
.pictures { list-style: none; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); }
.pictures img { display: block; width: 100%; max-width: 11rem;
  image-rendering: pixelated; border: 1px solid var(--line);
  border-radius: .4rem; }
.pictures p { margin: .4rem 0 0; font-size: .95rem; line-height: 1.4; }
.links { list-style: none; padding: .1rem 0 .1rem .9rem;
  border-left: 4px solid var(--line); }
.links li { margin: .35rem 0; }

@media (max-width: 40rem) {
  body { font-size: 1rem; }
  header { padding-top: 1.75rem; }
  h1 { font-size: 2rem; }
  h2 { font-size: 1.45rem; }
  .lead { font-size: 1.1rem; }
  .highlights { grid-template-columns: 1fr 1fr; }
  .highlights li:last-child:nth-child(odd) { grid-column: 1 / -1; }
  .highlights strong { font-size: 1.4rem; }
  table { font-size: .85rem; }
  th, td { padding-right: .6rem; }
  .chart img { padding: .25rem; }
  .shares li { grid-template-columns: 1fr; padding: .55rem 0; }
  .pictures { grid-template-columns: 1fr 1fr; }
}
@media (prefers-color-scheme: dark) {
  /* Charts are drawn dark on white. Turned around, they keep their hues. */
  .chart img { filter: invert(.89) hue-rotate(180deg); }
}
@media print {
  body { background: #fff; }
  pre, .card, figure, li { break-inside: avoid; }
  .card blockquote { max-height: none; }
}
"""


def _variables(colors):
    return " ".join(f"--{name}: {color};" for name, color in colors.items())


STYLE = (
    f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}\n"
    "@media (prefers-color-scheme: dark) {\n"
    f"  :root {{ {_variables(DARK)} }}\n}}\n{_RULES}"
)
