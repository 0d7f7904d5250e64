"""How a report looks: one stylesheet, light or dark as the reader's system is."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfaf7; --card: #ffffff; --ink: #1f2328; --soft: #5b6470; --line: #e2e0da; --mark: #fff6da;
  --good: #1a7f4b; --bad: #b3261e;
  --s0: #0b6bcb; --s1: #d1495b; --s2: #2a8c5f; --s3: #8a4fc9; --s4: #b7791f; --s5: #0f8b99; --s6: #c2418f;
  --s7: #6b7280;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15181c; --card: #1c2026; --ink: #e7e9ec; --soft: #a0a9b4; --line: #343a42; --mark: #3a3420;
    --good: #5bd196; --bad: #ff8a80;
    --s0: #6db3ff; --s1: #ff8b98; --s2: #66d19e; --s3: #c59bff; --s4: #eab54d; --s5: #5ed3e0; --s6: #ff8bcb;
    --s7: #aab2bd;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", "Helvetica Neue",
  "DejaVu Sans", sans-serif; }
main { max-width: 1020px; margin: 0 auto; padding: 40px 24px 80px; }
.notice { margin-top: 16px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 1.4rem; margin: 56px 0 4px; padding-top: 20px; border-top: 2px solid var(--line); }
h3 { font-size: 1.05rem; margin: 34px 0 6px; }
p { margin: 6px 0 12px; max-width: 78ch; }
.lead { color: var(--soft); font-size: 1.05rem; }
.note { color: var(--soft); font-size: 0.9rem; }
.notice { background: var(--mark); border-left: 4px solid var(--s4); padding: 10px 16px; border-radius: 4px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.93rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: 0.9rem; padding: 0 0 8px; }
th, td { padding: 8px 7px; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { border-bottom: 2px solid var(--line); color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 2px; white-space: nowrap; }
tbody th { font-weight: 600; }
td { white-space: nowrap; }
td.text { text-align: left; white-space: normal; }
table:has(td.text) th:last-child { text-align: left; }
td small { display: block; color: var(--soft); font-size: 0.8rem; white-space: nowrap; }
tr.chosen td, tr.chosen th { background: var(--mark); }
td.best { font-weight: 700; }
.good { color: var(--good); } .bad { color: var(--bad); }
.swatch { display: inline-block; width: 0.75em; height: 0.75em; border-radius: 50%; margin-right: 0.5em; }
figure { margin: 14px 0 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px; }
figure svg { display: block; width: 100%; height: auto; font-size: 12.5px; }
.strips { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 14px; }
.strips figure { margin: 0; padding: 12px; }
figure img { display: block; max-width: 100%; margin: 0 auto; background: #fff; border-radius: 6px; }
figcaption { color: var(--soft); font-size: 0.9rem; padding-top: 10px; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; overflow-x: auto;
  font: 0.82rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font: 0.88em ui-monospace, "DejaVu Sans Mono", monospace; }
summary { cursor: pointer; font-weight: 600; padding: 6px 0; }
svg text { fill: var(--ink); } svg .tick { fill: var(--soft); font-size: 11.5px; } svg .axis { fill: var(--soft); }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; } svg .name { font-weight: 600; }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .frame { stroke: var(--soft); stroke-width: 1; }
svg .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; } svg .band { opacity: 0.16; stroke: none; }
svg .leader { fill: none; stroke-width: 1; opacity: 0.55; }
svg .track { stroke: var(--line); stroke-width: 1; } svg .range { stroke-width: 3; opacity: 0.45; }
svg .mean { stroke-width: 3; } svg .seed { fill-opacity: 0.75; stroke: var(--card); stroke-width: 1; }
svg .line.reference { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .leader.reference { stroke: var(--soft); } svg text.reference { font-weight: 400; fill: var(--soft); }
@media print { body { background: #fff; } figure, tr { break-inside: avoid; } }
"""


def stylesheet() -> str:
    """`STYLE` with the colours of the eight systems."""
    rules = []
    for name in (f"s{number}" for number in range(8)):
        rules.append(
            f"svg polyline.{name}, svg line.{name} {{ stroke: var(--{name}); }} "
            f"svg polygon.{name}, svg circle.{name} {{ fill: var(--{name}); }} "
            f".swatch.{name} {{ background: var(--{name}); }}"
        )
    return STYLE + "\n".join(rules)
