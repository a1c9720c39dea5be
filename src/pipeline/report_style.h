// Private to pipeline: the report's one style sheet. Everything is on the page: no fonts, scripts or pictures from elsewhere.
#pragma once

namespace fettle {

constexpr const char* kReportStyle = R"(
:root{--paper:#fbfaf7;--card:#fff;--ink:#1d2125;--soft:#5f6870;--line:#e3e0d8;--accent:#0f6e84;--warm:#c2571a;--good:#2b7a4b;--bad:#b3372f;--shade:#f1efe8;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--paper:#14171a;--card:#1b1f23;--ink:#e8e6e1;--soft:#9aa3ab;--line:#31373d;--accent:#55b9d0;--warm:#f0955c;--good:#6cc48e;--bad:#f08078;--shade:#23282d}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:28px;line-height:1.2;margin:0;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:18px;margin:0 0 12px}
p{margin:0 0 10px}
header{display:flex;flex-wrap:wrap;gap:12px 18px;align-items:center;margin-bottom:6px}
.badge{padding:4px 14px;border-radius:99px;font-weight:650;font-size:14px;color:#fff;background:var(--bad)}
.badge.ok{background:var(--good)}
@media(prefers-color-scheme:dark){.badge{color:#14171a}}
.sub{color:var(--soft);margin-bottom:24px;overflow-wrap:anywhere}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 22px;margin-bottom:18px;min-width:0}
.tiles{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:14px;margin-bottom:18px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 18px}
.tile b{display:block;font-size:27px;line-height:1.25;font-weight:650;font-variant-numeric:tabular-nums}
.tile small{color:var(--soft);font-size:14px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:0 18px}
.pair.wide-first{grid-template-columns:minmax(0,2fr) minmax(0,1fr)}
@media(max-width:900px){.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}.pair.wide-first{grid-template-columns:minmax(0,1fr)}}
@media(max-width:820px){main{padding:20px 12px 40px}section{padding:16px 14px}h1{font-size:23px}}
table{border-collapse:collapse;width:100%;font-size:15px}
th{text-align:left;font-weight:600}
th,td{padding:8px 12px 8px 0;border-bottom:1px solid var(--line);vertical-align:top}
tbody tr:last-child>*{border-bottom:0}
thead th{color:var(--soft);font-size:13px;font-weight:600}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr.chosen td{font-weight:650}
.scroll{overflow-x:auto}
.pass{color:var(--good);font-weight:650}.miss{color:var(--bad);font-weight:650}.nowrap{white-space:nowrap}
.flips{table-layout:fixed}.flips th:first-child{width:40%}.flips td{overflow-wrap:anywhere}
code,pre{font:13.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre{background:var(--shade);border-radius:8px;padding:12px 14px;margin:0 0 12px;white-space:pre-wrap;overflow-wrap:anywhere}
td code{overflow-wrap:anywhere}
.rule{white-space:nowrap}
.digest{color:var(--soft);overflow-wrap:anywhere}
.soft{color:var(--soft)}
svg{display:block;width:100%;height:auto}
svg .label{font-size:12.5px;fill:var(--soft)}svg .strong{fill:var(--ink);font-weight:600}
svg .grid{stroke:var(--line);stroke-width:1}svg .axis{stroke:var(--soft);stroke-width:1}
svg polyline{fill:none;stroke-linejoin:round}
svg .faint{stroke:var(--accent);opacity:.22;stroke-width:1}svg .train{stroke:var(--accent);stroke-width:2.5}
svg .watched{stroke:var(--warm);stroke-width:2;stroke-dasharray:5 4}svg .watched-dot{fill:var(--warm)}
svg .whisker{stroke:var(--soft);stroke-width:2}svg .point{fill:var(--soft)}svg .chosen{fill:var(--accent)}
svg .limit{stroke:var(--warm);stroke-width:1.5;stroke-dasharray:5 4}svg .limit-text{fill:var(--warm)}
.legend{color:var(--soft);font-size:13.5px;margin:8px 0 0}
.key{display:inline-block;width:18px;height:4px;border-radius:2px;vertical-align:middle;margin:0 6px 0 10px}.key:first-child{margin-left:0}
.k-train{background:var(--accent)}.k-watched{background:var(--warm)}
.heat{width:auto;font-size:14px}.heat th,.heat td{border:0;padding:6px 8px}.heat th{overflow-wrap:anywhere}
.heat thead th{vertical-align:bottom}.heat thead span{writing-mode:vertical-rl;transform:rotate(180deg);max-height:170px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.heat tbody th{min-width:90px;max-width:260px}
.heat td{text-align:center;min-width:40px;border-radius:6px;font-variant-numeric:tabular-nums;border:2px solid var(--card)}
.heat td.good{background:color-mix(in srgb,var(--good) var(--s),transparent)}.heat td.bad{background:color-mix(in srgb,var(--bad) var(--s),transparent)}
.heat .corner{font-size:12px;color:var(--soft)}
@media(max-width:640px){
.tiles{gap:10px}.tile{padding:12px 14px}.tile b{font-size:22px}
svg .label{font-size:17px}
table{font-size:13.5px}th,td{padding:7px 6px 7px 0}tr>:last-child{padding-right:0}.n{white-space:normal}
.stack thead{display:none}.stack tr{display:block;padding:8px 0;border-bottom:1px solid var(--line)}.stack tr:last-child{border-bottom:0}
.stack td,.stack th{display:block;padding:2px 0;border:0}.stack .n{text-align:left}.stack td[data-l]:before{content:attr(data-l) ": ";color:var(--soft);font-weight:400}
.heat{font-size:13px}.heat thead span{max-height:120px}.heat th,.heat td{padding:4px 2px;min-width:24px}.heat tbody th{max-width:118px;padding-right:6px}
}
footer{color:var(--soft);font-size:13.5px;margin-top:22px}
)";

}  // namespace fettle
