"""The style sheet of the report: light and dark, narrow and wide, on screen and on paper."""

# Contrast of text is 7:1 or more and that of marks 3:1 or more, in both schemes. Series differ by
# their dashes too, for those who see no colours.
STYLE = """
:root{color-scheme:light dark;--page:#ffffff;--card:#f6f7f9;--ink:#16191d;--soft:#454c55;
--edge:#c3c9d1;--grid:#e2e5ea;--link:#0b4fa8;--warn:#8a3b00;--warnback:#fff3e6;
--s0:#1f5fbf;--s1:#b8470b;--s2:#10764f;--s3:#8a2f9c;--low:#1f5fbf;--high:#c4280f}
@media (prefers-color-scheme:dark){:root{--page:#14171b;--card:#1d2126;--ink:#eef1f4;
--soft:#bcc4ce;--edge:#4b545f;--grid:#2d333a;--link:#9cc3ff;--warn:#ffc38a;--warnback:#33240f;
--s0:#79aefc;--s1:#ff9d5c;--s2:#5fd0a0;--s3:#dc9be8;--low:#6aa5ff;--high:#ff7d66}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,"DejaVu Sans",sans-serif;overflow-wrap:anywhere}
header,main,footer{max-width:1360px;margin:0 auto;padding:0 16px}
h1{font-size:1.6rem;line-height:1.25;margin:24px 0 4px}
h2{font-size:1.25rem;margin:40px 0 8px;padding-top:12px;border-top:1px solid var(--edge)}
h3{font-size:1.05rem;margin:24px 0 6px}
figure h3{font-size:.95rem;margin:0 0 4px;overflow-wrap:anywhere}
p{max-width:75ch;margin:8px 0}
ul{padding-left:20px}
a{color:var(--link)}
a:focus-visible,summary:focus-visible,[tabindex]:focus-visible{outline:3px solid var(--link);
outline-offset:2px}
.skip{position:absolute;left:-9999px}
.skip:focus{left:8px;top:8px;background:var(--page);padding:8px}
.soft,figcaption,caption{color:var(--soft);font-size:.875rem}
.lead{font-size:1.1rem}
.warn{color:var(--warn);background:var(--warnback);border-left:4px solid var(--warn);
padding:8px 12px;max-width:80ch}
nav ul{display:flex;flex-wrap:wrap;gap:4px 16px;list-style:none;padding:0;margin:12px 0}
nav a{display:inline-block;padding:4px 0}
.tiles{display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));
margin:16px 0;padding:0;list-style:none}
.beside{display:inline-block;min-width:4.5em}
@media (min-width:760px){.tiles:has(>:nth-child(9)){grid-template-columns:repeat(5,1fr)}}
.tiles li{background:var(--card);border:1px solid var(--grid);border-radius:8px;padding:10px 12px}
.tiles strong{display:block;font-size:1.35rem;line-height:1.3;font-variant-numeric:tabular-nums}
.gallery{display:grid;gap:16px;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));
margin:12px 0}
figure{margin:0;background:var(--card);border:1px solid var(--grid);border-radius:8px;padding:12px}
figure>svg{width:100%;height:auto;display:block}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;list-style:none;margin:0 0 4px;padding:0;
font-size:.85rem}
.key{width:28px;height:10px;margin-right:5px;vertical-align:middle}
svg text{fill:var(--soft);font-size:12px}
.end{text-anchor:end}.mid{text-anchor:middle}.title{fill:var(--ink)}
.grid{stroke:var(--grid)}.axis{stroke:var(--soft)}
.guide{stroke:var(--soft);stroke-dasharray:4 4;fill:none}
.line{fill:none;stroke-width:2}.whisker{stroke-width:2;fill:none}
.s0{stroke:var(--s0);color:var(--s0)}.s1{stroke:var(--s1);color:var(--s1);stroke-dasharray:7 3}
.s2{stroke:var(--s2);color:var(--s2);stroke-dasharray:2 3}
.s3{stroke:var(--s3);color:var(--s3);stroke-dasharray:9 3 2 3}
.whisker{stroke-dasharray:none}
.fill,.dot{stroke:none;fill:currentColor}
.fill.s1,.fill.s2,.fill.s3{opacity:.75}
.cold{color:var(--low)}.warm{color:var(--high)}.middle{color:var(--soft)}.dot.faint{opacity:.55}
.track{fill:var(--grid)}
.meter{width:110px;height:10px}.interval{width:160px;height:22px}
.wide{overflow-x:auto;margin:12px 0}
table{border-collapse:collapse;font-size:.9rem}
caption{text-align:left;padding:4px 0}
th,td{padding:4px 12px 4px 0;border-bottom:1px solid var(--grid);vertical-align:middle;
overflow-wrap:normal}
th[scope=row]{font-weight:600}
.t{text-align:left}.n{text-align:right;font-variant-numeric:tabular-nums}
th.t{min-width:7em;max-width:28em;overflow-wrap:break-word}
td.t{min-width:8em;max-width:34em;overflow-wrap:break-word}
td.n{white-space:nowrap}
.heat td{padding:6px 10px}
.heat b{display:inline-block;min-width:3.2em;padding:2px 6px;border-radius:4px;font-weight:600}
.h1{box-shadow:inset 0 0 0 1px var(--edge)}.h2{box-shadow:inset 0 0 0 2px var(--s1)}
.h3{background:var(--s1);color:var(--page)}.h0{font-weight:400!important}
.hit{background:var(--s0);color:var(--page)}
pre{background:var(--card);border:1px solid var(--grid);border-radius:6px;padding:10px;
overflow-x:auto;font-size:.85rem;overflow-wrap:normal}
details{margin:10px 0}summary{cursor:pointer;color:var(--link);padding:4px 0}
footer{padding-bottom:48px}
@media print{nav,.skip{display:none}figure{break-inside:avoid}}
"""
