// The style sheet of the report page. Colours are Okabe and Ito's, which stay apart for
// colour-blind readers; the dark set is the same hues at a lightness that reads on black.
#pragma once

namespace mneme {

inline constexpr const char* kReportStyle = R"css(
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1b2128;--muted:#5a6673;--grid:#e3e7ec;--line:#d3d9e0;--good:#00684c;--bad:#a33c00;
--s0:#0072b2;--s1:#d55e00;--s2:#00855f;--s3:#b3487f;--s4:#8f6400;--s5:#4b5bbd}
@media(prefers-color-scheme:dark){:root{--page:#11151a;--card:#1a2027;--ink:#e8edf2;--muted:#a2afbc;--grid:#2b333d;--line:#37414d;--good:#4fd1a5;--bad:#ff9f66;
--s0:#56b4e9;--s1:#ff8a3d;--s2:#2ec99a;--s3:#e79cc4;--s4:#e6b93c;--s5:#a3aef5}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:1.2rem;line-height:1.3;margin:36px 0 12px}
h3{font-size:1rem;margin:0 0 4px}
p{margin:0 0 8px}
.lead,.note{color:var(--muted)}
.note{font-size:.9rem}
code,.spec{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.88em;overflow-wrap:anywhere}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:16px}
.grid{display:grid;gap:16px;grid-template-columns:repeat(auto-fit,minmax(min(100%,380px),1fr))}
.legend{display:flex;flex-wrap:wrap;gap:6px 20px;list-style:none;margin:16px 0;padding:0}
.legend li{display:flex;align-items:center;gap:8px}
svg{display:block;width:100%;height:auto}
svg.key{display:inline-block;width:34px;height:16px;flex:none;vertical-align:-3px}
svg text{font:13.5px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ink)}
svg text.tick{font-size:13px;fill:var(--muted)}
svg text.name{font-weight:500;font-size:13px;paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
line.grid{stroke:var(--grid)}
line.axis{stroke:var(--muted)}
line.leader{stroke:var(--muted);stroke-width:.8}
.front{fill:none;stroke:var(--muted);stroke-width:1.4;stroke-dasharray:5 3}
.l{fill:none;stroke-width:2.2;stroke-linejoin:round}
.m{stroke:var(--card);stroke-width:1.2}
.m.s0,.b.s0{fill:var(--s0)}.m.s1,.b.s1{fill:var(--s1)}.m.s2,.b.s2{fill:var(--s2)}.m.s3,.b.s3{fill:var(--s3)}.m.s4,.b.s4{fill:var(--s4)}.m.s5,.b.s5{fill:var(--s5)}
.l.s0{stroke:var(--s0)}.l.s1{stroke:var(--s1)}.l.s2{stroke:var(--s2)}.l.s3{stroke:var(--s3)}.l.s4{stroke:var(--s4)}.l.s5{stroke:var(--s5)}
.b1{fill-opacity:.55}.b2{fill:none!important;stroke:var(--muted);stroke-dasharray:3 2}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
.wide{padding:10px 16px;overflow-x:auto}
th,td{padding:9px 10px;text-align:right;border-bottom:1px solid var(--grid);vertical-align:top}
.rows td{white-space:nowrap}.rows th[scope=row]{min-width:15em}
.spec{white-space:normal}
thead th{color:var(--muted);font-weight:600;font-size:.85rem;line-height:1.25;vertical-align:bottom}
th[scope=row],thead th:first-child{text-align:left;padding-left:0}
tr:last-child>*{border-bottom:0}
.answer{white-space:pre-wrap;overflow-wrap:anywhere;margin:8px 0 0;padding:10px 12px;background:var(--page);border-radius:8px;max-height:22em;overflow:auto}
.error{color:var(--bad)}
.hit{color:var(--good);font-weight:600}.miss{color:var(--bad)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:6px 18px;margin:0}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
footer{margin-top:32px;color:var(--muted);font-size:.9rem}
@media(max-width:640px){main{padding:18px 12px 32px}h1{font-size:1.4rem}.card{padding:12px}
.rows thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.rows,.rows tbody,.rows tr,.rows th,.rows td{display:block}
.rows tr{padding:10px 0;border-bottom:1px solid var(--line)}.rows tr:last-child{border-bottom:0}
.rows th[scope=row]{min-width:0}.rows th,.rows td{border:0;padding:3px 0;text-align:left}
.rows td{white-space:normal;display:flex;justify-content:space-between;gap:16px}
.rows td::before{content:attr(data-label);color:var(--muted)}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:8px}}
@media print{.card{break-inside:avoid}body{background:#fff}}
)css";

}  // namespace mneme
