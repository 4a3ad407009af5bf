// Colours come from the app's theme.

const CSS = `
.difffae-adjust { display: flex; flex-direction: column; gap: 6px; width: 100%; box-sizing: border-box; overflow: hidden;
  font: 12px/1.3 Inter, system-ui, sans-serif; color: var(--difffae-text); user-select: none; -webkit-user-select: none; padding-top: 2px;
  --difffae-text: var(--input-text, #ddd); --difffae-field: var(--component-node-widget-background, var(--comfy-input-bg, #222));
  --difffae-line: color-mix(in srgb, var(--border-color, #4e4e4e) 55%, transparent); }
.difffae-adjust *, .difffae-adjust *::before { box-sizing: border-box; }
.difffae-adjust [hidden] { display: none !important; }
.difffae-main { flex: 1 1 auto; min-height: 0; display: flex; flex-direction: column; gap: 6px; }
.wide > .difffae-main { flex: 1 1 0; flex-direction: row; min-height: var(--difffae-room, 200px); }
.difffae-room { flex: 1 1 0; min-height: var(--difffae-room, 200px); min-width: 0; container-type: size; display: grid; place-items: center; }
.wide .difffae-room { flex: 0 0 55%; place-items: start center; }
.difffae-sliders { flex: none; display: flex; flex-direction: column; gap: 2px; min-width: 0; }
.wide .difffae-sliders { flex: 1 1 0; overflow-y: auto; scrollbar-width: thin; }
.difffae-group > summary { height: 22px; line-height: 22px; cursor: pointer; font-weight: 600; color: var(--descrip-text, #aaa); border-radius: 4px; }
.difffae-group > summary:hover { color: var(--difffae-text); }
.difffae-slider { display: flex; align-items: center; gap: 6px; height: 22px; }
.difffae-slider > span:first-child { flex: 0 0 76px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; color: var(--descrip-text, #aaa); }
.difffae-slider.changed > span:first-child { color: var(--difffae-text); font-weight: 600; }
.difffae-track { flex: 1 1 0; min-width: 40px; display: flex; align-items: center; }
.difffae-slider input[type=range] { flex: 1 1 0; min-width: 0; margin: 0; height: 16px; accent-color: var(--p-primary-color, #60a5fa); }
.difffae-slider.limited > .difffae-track { border-radius: 4px; --beyond: color-mix(in srgb, #e5484d 45%, transparent);
  background: linear-gradient(to right, var(--beyond) var(--low), transparent var(--low) var(--high), var(--beyond) var(--high)) center / 100% 12px no-repeat; }
.difffae-slider.off { opacity: .55; }
.difffae-slider input[type=number] { flex: 0 0 50px; width: 50px; height: 20px; padding: 0 2px; font: inherit; font-variant-numeric: tabular-nums; text-align: right;
  color: var(--difffae-text); background: var(--difffae-field); border: 1px solid var(--difffae-line); border-radius: 4px; appearance: textfield; }
.difffae-slider input[type=number]::-webkit-inner-spin-button { appearance: none; }
.difffae-slider input[type=checkbox] { margin: 0; accent-color: var(--p-primary-color, #60a5fa); }
.difffae-stage { position: relative; width: min(100cqw, 100cqh); height: min(100cqw, 100cqh); overflow: hidden; border-radius: 8px;
  background: var(--difffae-field); touch-action: none; }
.difffae-stage::after { content: ""; position: absolute; inset: 0; border: 1px solid var(--difffae-line); border-radius: inherit; pointer-events: none; }
.difffae-stage.ready { cursor: grab; }
.difffae-stage.turning { cursor: grabbing; }
.difffae-stage > img { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; -webkit-user-drag: none; }
.difffae-stage.stale > img { filter: grayscale(.7) brightness(.45); }
.difffae-cover { position: absolute; inset: 0; display: flex; flex-direction: column; gap: 12px; align-items: center; justify-content: center;
  padding: 16px; text-align: center; text-wrap: balance; color: var(--descrip-text, #aaa); }
.difffae-stage.stale .difffae-cover { color: #eee; }
.difffae-note { position: absolute; top: 8px; left: 8px; right: 8px; padding: 4px 8px; border-radius: 6px; font-size: 11px; color: #fff;
  background: rgba(20, 20, 20, .82); white-space: nowrap; overflow: hidden; text-overflow: ellipsis; pointer-events: none; }
.difffae-note.error { background: rgba(150, 25, 25, .92); pointer-events: auto; }
.difffae-warning { box-sizing: border-box; width: 100%; height: 100%; padding: 4px 8px; overflow: hidden auto; border-radius: 6px; border-left: 3px solid #e5a50a;
  background: color-mix(in srgb, #e5a50a 18%, transparent); color: var(--input-text, #ddd); font: 11px/15px Inter, system-ui, sans-serif;
  white-space: pre-wrap; user-select: text; -webkit-user-select: text; }
.difffae-readout { position: absolute; left: 8px; bottom: 8px; padding: 3px 7px; border-radius: 6px; font-size: 11px; color: #fff;
  font-variant-numeric: tabular-nums; background: rgba(20, 20, 20, .7); pointer-events: none; opacity: 0; transition: opacity .2s; }
.difffae-readout.on { opacity: 1; }
.difffae-busy { position: absolute; left: 0; right: 0; top: 0; height: 2px; overflow: hidden; pointer-events: none; }
.difffae-busy::before { content: ""; display: block; width: 40%; height: 100%; background: var(--p-primary-color, #60a5fa); animation: difffae-busy 1s ease-in-out infinite; }
@keyframes difffae-busy { from { transform: translateX(-100%); } to { transform: translateX(250%); } }
.difffae-ball { position: absolute; right: 6px; bottom: 6px; width: 72px; height: 72px; border-radius: 50%; cursor: crosshair; touch-action: none;
  background: radial-gradient(closest-side, rgba(0, 0, 0, .5) 78%, rgba(0, 0, 0, .25) 88%, transparent); }
.difffae-bar { display: flex; gap: 4px; align-items: center; flex: none; }
.difffae-adjust button, .difffae-adjust select, .difffae-adjust textarea { font: inherit; color: var(--difffae-text); background: var(--difffae-field);
  border: 1px solid var(--difffae-line); border-radius: 6px; margin: 0; }
.difffae-adjust button, .difffae-adjust select { height: 28px; padding: 0 7px; cursor: pointer; }
.difffae-adjust button:hover:not(:disabled), .difffae-adjust select:hover { background: color-mix(in srgb, var(--difffae-field) 88%, var(--difffae-text)); }
.difffae-adjust button:disabled { opacity: .4; cursor: default; }
.difffae-adjust button:active:not(:disabled), .difffae-adjust button.on { background: color-mix(in srgb, var(--difffae-field) 76%, var(--difffae-text)); }
.difffae-adjust button.primary { color: #fff; background: #0b8ce9; border-color: transparent; height: 32px; padding: 0 16px; font-weight: 500; }
.difffae-adjust button.primary:hover:not(:disabled) { background: #31a0f0; }
.difffae-adjust :focus-visible { outline: 2px solid var(--p-primary-color, #60a5fa); outline-offset: -2px; }
.difffae-adjust .difffae-chip { flex: none; padding: 0 6px; border-color: var(--p-primary-color, #60a5fa); }
.difffae-adjust .difffae-icon { width: 26px; padding: 0; display: grid; place-items: center; flex: none; }
.difffae-icon svg { width: 15px; height: 15px; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
.difffae-style { display: flex; flex: none; }
.difffae-style button:first-child { border-radius: 6px 0 0 6px; border-right: 0; }
.difffae-style button:last-child { border-radius: 0 6px 6px 0; }
.difffae-adjust select { flex: 1 1 50px; min-width: 50px; padding: 0 2px; }
.difffae-frames { display: flex; gap: 8px; align-items: center; height: 20px; flex: none; font-variant-numeric: tabular-nums; }
.difffae-frames input { flex: 1; min-width: 0; margin: 0; accent-color: var(--p-primary-color, #60a5fa); }
.difffae-dialog { position: absolute; inset: 0; display: flex; flex-direction: column; gap: 8px; padding: 12px; background: var(--comfy-menu-bg, #353535); color: var(--fg-color, #fff); cursor: default; }
.difffae-dialog textarea { flex: 1; min-height: 0; resize: none; padding: 6px; font-family: monospace; font-size: 11px; user-select: text; -webkit-user-select: text; }
.difffae-dialog div { display: flex; gap: 6px; justify-content: flex-end; }
@media (prefers-reduced-motion: reduce) { .difffae-busy::before { animation: none; width: 100%; } }
`;

export function addStyle() {
  const id = "difffae-adjust-style";
  if (document.getElementById(id)) return;
  const style = document.createElement("style");
  style.id = id;
  style.textContent = CSS;
  document.head.append(style);
}
