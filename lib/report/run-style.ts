// How a page of runs looks, beside what all pages have.
export const RUN_STYLE = `
.answers { list-style: none; padding: 0; margin: 1rem 0; display: grid; gap: 1rem 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
.answers li { border: 1px solid var(--line); border-radius: 8px; padding: .75rem 1rem; background: var(--wash); }
.answers h3 { margin: 0; font-size: .85rem; font-weight: 600; color: var(--soft); }
.answer { font-size: 1.05rem; white-space: pre-wrap; overflow-wrap: anywhere; margin: .25rem 0 .5rem; }
.answers .soft { font-size: .8rem; margin: 0; font-variant-numeric: tabular-nums; display: flex; flex-wrap: wrap; gap: 0 1rem; }
.answers .soft span { white-space: nowrap; }
.controls { position: sticky; top: 0; z-index: 1; background: var(--paper); padding: .6rem 0; border-bottom: 1px solid var(--line); }
.controls fieldset { border: 0; padding: 0; margin: 0 0 .4rem; display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; }
.controls legend { float: left; color: var(--soft); margin-right: 1rem; padding: 0; }
.slider { display: grid; grid-template-columns: max-content minmax(8rem, 32rem) minmax(0, 1fr); gap: .1rem 1rem; align-items: end; }
.slider > label { color: var(--soft); }
.track { display: grid; }
.strip { width: calc(100% - 2px); margin: 0 1px; height: 30px; border-bottom: 1px solid var(--line); }
.track input { width: 100%; margin: .15rem 0 0; accent-color: var(--heat); }
.where { font-variant-numeric: tabular-nums; }
.toggles { display: flex; flex-wrap: wrap; gap: .1rem 1.25rem; margin: .35rem 0 0; max-width: none; }
.toggles:not(:has(label:not([hidden]))) { display: none; }
.about { display: block; color: var(--soft); min-height: 1.5em; margin-top: .25rem; }
input { accent-color: var(--heat); }
.pictures { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr)); margin: 1.25rem 0; max-width: 64rem; }
/* One picture alone has more room. */
.pictures.one { grid-template-columns: minmax(0, 26rem); }
.picture { position: relative; border-radius: 4px; cursor: crosshair; touch-action: manipulation; }
.picture img { display: block; width: 100%; height: auto; border-radius: 4px; }
.picture svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.pictures figcaption { margin: .35rem 0 0; font-variant-numeric: tabular-nums; }
.words { white-space: pre-wrap; overflow-wrap: anywhere; max-width: 52rem; line-height: 1.75; padding: .25rem; margin: 0 -.25rem; border-radius: 4px; }
.words span { border-radius: 3px; }
.words [data-special] { font: .78rem ui-monospace, monospace; color: var(--soft); }
.words .cache { background: color-mix(in srgb, var(--heat) calc(var(--k) * 42%), transparent); }
.words .gone, .words.gone span { color: var(--dim); text-decoration: line-through; text-decoration-thickness: 1px; }
.words .gone.cache { color: var(--soft); }
.words .merged, .words.merged span { color: var(--dim); border-bottom: 2px dotted var(--g, var(--soft)); }
.words .holds { border-bottom: 2px solid var(--g); }
.words [data-at] { outline: 2px solid var(--ink); outline-offset: 1px; }
.words.cache span { background: linear-gradient(90deg, transparent, color-mix(in srgb, var(--heat) 42%, transparent)); }
.chip { font: .8rem system-ui, sans-serif; color: var(--soft); border: 1px solid var(--line); border-radius: 999px; padding: .1rem .6rem; margin: 0 .25rem; white-space: nowrap; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; font-size: .8rem; max-width: none; }
.legend .words { padding: 0; margin: 0; line-height: inherit; color: var(--ink); }
:root { --dim: #82878e; }
@media (prefers-color-scheme: dark) { :root { --dim: #767c84; } }
@media (max-width: 44rem) { .slider { grid-template-columns: max-content minmax(0, 1fr); } .where { grid-column: 1 / -1; } .strip { height: 18px; } }
@media print { .controls { position: static; } }
`
