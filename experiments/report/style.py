"""The looks of the HTML page, and the few lines of script that sort its tables."""

CSS = """
:root{color-scheme:light dark;--ink:#1c1e21;--paper:#fdfdfc;--soft:#5b6168;--line:#d9dcdf;--grid:#d3d6d9;--card:#f3f4f5;
--bad:#a4161a;--badpaper:#fdecec;--warn:#7a4d00;--warnpaper:#fff5e0;--good:#1c6b3a;--goodpaper:#e9f6ee}
@media(prefers-color-scheme:dark){:root{--ink:#e4e6e8;--paper:#16181a;--soft:#a0a6ac;--line:#34383c;--grid:#3a3f44;--card:#1f2225;
--bad:#ff9a96;--badpaper:#3a1a1b;--warn:#f3c675;--warnpaper:#33280f;--good:#8fd6a8;--goodpaper:#16301f}
.coloured mark{background:#1f4d2d;color:inherit}.coloured del{background:#4a1f1f;color:#ffb3ae}}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:66rem;margin:0 auto;padding:1rem 1rem 4rem}
header p,figcaption,caption{color:var(--soft)}header p{margin-top:0}
h1{font-size:1.7rem;line-height:1.2;margin:.6rem 0 .2rem}
h2{font-size:1.25rem;margin:2.2rem 0 .6rem;border-bottom:1px solid var(--line);padding-bottom:.2rem}
h4{margin:1rem 0 .2rem;font-size:.95rem}
.bad,.warn,.good{padding:.55rem .8rem;border-radius:.4rem;border-left:.3rem solid}
.bad{color:var(--bad);background:var(--badpaper);border-color:var(--bad);font-weight:600}
.warn{color:var(--warn);background:var(--warnpaper);border-color:var(--warn)}.good{color:var(--good);background:var(--goodpaper);border-color:var(--good)}
ul{padding-left:1.3rem}ul.bad,ul.warn{padding-left:2rem}details ul.warn{border:0;padding:.2rem 0 0 1.3rem;margin:0}
details{margin:.6rem 0}summary{cursor:pointer}
.wide{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.2rem 0;white-space:nowrap}
th,td{padding:.3rem .7rem .3rem 0;text-align:left;white-space:nowrap;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600;cursor:pointer}td.bad{display:table-cell;padding:.3rem .5rem}
a{color:inherit}tr:target{background:var(--warnpaper)}
figure{margin:1.4rem 0;background:var(--card);border-radius:.5rem;padding:.8rem}
figure svg{display:block;width:100%;height:auto;max-width:44rem;margin:0 auto}figure svg text{font-family:inherit}
figcaption{font-size:.9rem;margin-top:.4rem;text-align:center}
dl{display:grid;grid-template-columns:minmax(8rem,auto) 1fr;gap:.35rem 1rem;margin:0}dt{font-weight:600}dd{margin:0}
pre.coloured{background:var(--card);padding:.7rem;border-radius:.4rem;font-size:.82rem;line-height:1.55;margin:.3rem 0}
@media(max-width:36rem){dl{grid-template-columns:1fr;gap:0}dd{margin:0 0 .6rem}figure{margin:1rem -1rem;border-radius:0;padding:.6rem .3rem}}
@media print{details{display:block}.wide{overflow:visible}}
"""

SORT = """
document.querySelectorAll("th").forEach(head=>head.addEventListener("click",()=>{
const body=head.closest("table").tBodies[0],place=head.cellIndex,up=head.dataset.up!=="1";head.dataset.up=up?"1":"0";
const key=row=>row.cells[place].textContent,value=text=>parseFloat(text);
[...body.rows].sort((a,b)=>{const x=value(key(a)),y=value(key(b));
const order=isNaN(x)||isNaN(y)?key(a).localeCompare(key(b)):x-y;return up?order:-order}).forEach(row=>body.append(row))}));
"""
