// Expressions by name. What a preset names is aimed at, whatever the face's own expression; what it does not name is left alone.
import { EXPRESSION } from "./values.js";

const PRESETS = {
  neutral: { smile: 0, jaw_open: 0, blink: 0, brow_up: 0, gaze_x: 0, gaze_y: 0 },
  smile: { smile: 0.6, jaw_open: 0 },
  laugh: { smile: 1, jaw_open: 0.55, blink: 0.25, brow_up: 0.2 },
  surprised: { smile: 0, jaw_open: 0.5, blink: -0.8, brow_up: 1 },
  sad: { smile: -0.7, jaw_open: 0, brow_up: 0.4, gaze_y: -0.35 },
  angry: { smile: -0.4, jaw_open: 0, blink: -0.2, brow_up: -1 },
  closed: { blink: 1 },
  sleepy: { blink: 0.4, brow_up: 0.3, gaze_y: -0.3 },
  left: { gaze_x: -0.9 },
  right: { gaze_x: 0.9 },
};

export const PRESET_NAMES = Object.keys(PRESETS);

/** Values of the six expression sliders. own: where the face itself stands on their axes; sliders that are not absolute add to that.
 *  A face that smiles more than Smile asks for keeps its smile. */
export function presetValues(name, own = {}, absolute = false) {
  const slider = (axis) => {
    const aim = PRESETS[name][axis];
    if (aim === undefined) return 0;
    if (absolute) return aim;
    const from = own[axis] ?? 0;
    return aim !== 0 && aim * (aim - from) < 0 ? 0 : aim - from;
  };
  return Object.fromEntries(EXPRESSION.map((axis) => [axis, slider(axis)]));
}
