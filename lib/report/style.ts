// How pages look: two colour schemes, one column, system fonts.
const LIGHT = `
  --paper: #fdfdfb; --ink: #1d1f22; --soft: #5b6068; --line: #d9dade; --wash: #f1f1ee; --heat: #1f5fbf; --on-heat: #fff; --mark: #b3410e;
  --c0: #6f747c; --c1: #8a6d3b; --c2: #1f5fbf; --c3: #b8480b; --c4: #13734a; --c5: #8238bd; --c6: #0a7183; --c7: #b51f69; --c8: #746300; --c9: #a3241d;`

const DARK = `
  --paper: #15171a; --ink: #e8e8e6; --soft: #a3a8b0; --line: #383c42; --wash: #1f2226; --heat: #7fb1ff; --on-heat: #0c1118; --mark: #ffa263;
  --c0: #9aa0a8; --c1: #c9ab77; --c2: #7fb1ff; --c3: #ffa263; --c4: #62d49b; --c5: #cb9fff; --c6: #5dcfe0; --c7: #ff8abf; --c8: #d6c54f; --c9: #ff8d83;`

export const COLOURS = 10

export const STYLE = `
:root { color-scheme: light dark; ${LIGHT} }
@media (prefers-color-scheme: dark) { :root { ${DARK} } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .35rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { max-width: 46rem; margin: .35rem 0 .75rem; }
.soft, figcaption, caption { color: var(--soft); }
a { color: var(--c2); }
:focus-visible { outline: 2px solid var(--c2); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; margin: .75rem 0 0; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .85rem; margin-bottom: .25rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(27rem, 100%), 1fr)); gap: 1.5rem; }
.maps { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; align-items: flex-start; margin-bottom: 1rem; }
.lines { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(var(--wide), 100%), 1fr)); gap: .25rem 2rem; }
.kept { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); gap: 1.5rem; }
svg { display: block; max-width: 100%; height: auto; font: 11px system-ui, sans-serif; fill: var(--ink); }
svg .soft { fill: var(--soft); }
svg .curve, svg .bar, svg .ring { stroke: currentColor; fill: none; } svg .curve { stroke-width: 1.6; } svg .bar { stroke-opacity: .35; }
svg .dot { fill: currentColor; }
svg .axis { stroke: var(--line); fill: none; }
details { margin: .75rem 0; }
summary { cursor: pointer; color: var(--c2); width: fit-content; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; max-width: 56rem; margin: .5rem 0; }
dt { color: var(--soft); } dd { margin: 0; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .25rem; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; font-weight: 400; }
thead th { color: var(--soft); border-bottom-color: var(--soft); }
tbody tr:hover { background: var(--wash); }
.number { text-align: right; }
@media print { main { max-width: none; } details { display: none; } }
`
