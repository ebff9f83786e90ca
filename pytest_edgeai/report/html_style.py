"""How the page looks: one style sheet, for a phone first, in the colors of the palette."""

from __future__ import annotations

from pytest_edgeai.report.palette import style_sheet

_RULES = """
*{box-sizing:border-box}
html{font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;
 background:var(--page);color:var(--ink);-webkit-text-size-adjust:100%}
body{margin:0 auto;padding:1rem;max-width:76rem;overflow-wrap:anywhere}
h1{font-size:1.9rem;margin:.5rem 0;line-height:1.2}
h2{font-size:1.4rem;margin:2rem 0 .5rem;border-bottom:2px solid var(--rule);padding-bottom:.25rem}
h3{font-size:1.15rem;margin:1.25rem 0 .5rem}
h4{font-size:1rem;margin:1.5rem 0 .5rem}
h5{font-size:.95rem;margin:1rem 0 .25rem}
p{margin:.5rem 0}
ul,ol{margin:.5rem 0;padding-left:1.4rem}
li{margin:.25rem 0}
a{color:var(--link)}
code,pre,.name{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;
 font-size:.875rem}
pre{background:var(--panel);border:1px solid var(--rule);border-radius:6px;padding:.6rem .75rem;
 overflow-x:auto;overflow-wrap:normal;margin:.5rem 0}
:focus-visible{outline:3px solid var(--link);outline-offset:2px;border-radius:3px}
main:focus{outline:none}
.skip{position:absolute;left:-200vw;top:0;background:var(--page);padding:.5rem 1rem;z-index:1}
.skip:focus{left:.5rem}
.good{color:var(--good)}.bad{color:var(--bad)}.doubt{color:var(--doubt)}
.muted{color:var(--muted)}
.mark{font-weight:600;white-space:nowrap}
.sign{display:inline-block;min-width:1.1em;text-align:center;margin-right:.15em}
.note{border-left:4px solid var(--doubt);padding:.1rem .75rem;background:var(--panel)}
.decisions{list-style:none;padding:0;font-size:1.05rem}
.decisions li{padding:.4rem 0}
.decisions p{margin:.1rem 0 0 1.3em}
.decisions .mark+.mark,.decisions a+.mark{margin-left:.5rem}
nav ul{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.25rem 1.25rem}
nav a{display:inline-block;padding:.25rem 0}
.facts{display:grid;gap:.15rem 1rem;margin:.5rem 0}
.facts>div{display:grid;grid-template-columns:minmax(7rem,11rem) minmax(0,1fr);gap:.75rem}
.facts dt{color:var(--muted)}.facts dd{margin:0}
details{margin:.5rem 0}
summary{cursor:pointer;padding:.35rem 0}
.candidate{border:1px solid var(--rule);border-radius:8px;padding:0 1rem;margin:1rem 0}
.candidate>summary{padding:.6rem 0}
.candidate>summary>h3{display:inline;margin:0 .75rem 0 0}
.candidate>summary>.mark{margin-right:.75rem}
.candidate[open]{padding-bottom:1rem}
table{border-collapse:collapse;width:100%;margin:.5rem 0;font-size:.925rem;
 font-variant-numeric:tabular-nums;overflow-wrap:break-word}
.folds,.name{overflow-wrap:anywhere}
th,td{text-align:left;vertical-align:middle;padding:.35rem .6rem;
 border-bottom:1px solid var(--rule)}
thead th{color:var(--muted);font-weight:600}
thead .name{font:inherit;font-weight:600}
tbody th{font-weight:600}
.num{text-align:right}
.scrolls{overflow-x:auto;overflow-wrap:normal;border:1px solid var(--rule);border-radius:6px}
.scrolls table{margin:0}
.scrolls td,.scrolls th{white-space:nowrap}
.scrolls td:last-child:not(.num){white-space:normal;min-width:20rem}
.bar{display:block;width:160px;max-width:100%;height:22px}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,28rem),1fr));
 gap:1rem;align-items:start}
figure{margin:.5rem 0;background:var(--panel);border:1px solid var(--rule);border-radius:8px;
 padding:.75rem;min-width:0}
figcaption{font-size:.925rem}
.plot{display:block;width:100%;max-width:32rem;height:auto}
.links{line-height:2}
.out{white-space:nowrap}
h1 .mark{white-space:normal}
footer{margin:2.5rem 0 1rem;color:var(--muted);font-size:.875rem}
@media (min-width:60rem){
 .beside{display:grid;grid-template-columns:minmax(0,30rem) minmax(0,1fr);column-gap:1.5rem;
  grid-template-rows:auto 1fr}
 .beside>.plot{grid-row:1/span 2}
}
@media (max-width:46rem){
 body{padding:.75rem}
 figure{padding:.5rem .25rem}
 figcaption,figure>details{padding:0 .4rem}
 .folds,.folds tbody,.folds tr,.folds td,.folds tbody th{display:block}
 .folds thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
 .folds tr{padding:.5rem 0;border-bottom:1px solid var(--rule);display:grid;
  grid-template-columns:8.5rem minmax(0,1fr) auto}
 .folds td,.folds tbody th{border:0;padding:.1rem 0;text-align:left;grid-column:1/-1}
 .folds tbody th{grid-column:1/3;grid-row:1}
 .folds td.out{grid-column:3;grid-row:1}
 .folds td[data-title]:not(.out,.pic){display:grid;gap:.5rem;
  grid-template-columns:8rem minmax(0,1fr)}
 .folds td[data-title]:not(.out,.pic)::before{content:attr(data-title);color:var(--muted);
  font-family:system-ui,sans-serif}
 .folds td[data-title]:not(.out):empty{display:none}
 .bar{width:100%;max-width:320px}
 .candidate{padding:0 .7rem}
 .facts>div{grid-template-columns:minmax(0,1fr);gap:0}
 .facts dt{font-size:.875rem}
}
@media print{
 nav,.skip{display:none}
 .scrolls{overflow:visible}
 .candidate,figure{break-inside:avoid}
}
"""

STYLE = style_sheet() + " ".join(_RULES.split())
