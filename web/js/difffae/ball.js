// A ball to set where light comes from. Axes: x right in the image, y up, z to the viewer; angles are degrees, as in the node's widgets:
// azimuth 0 from the viewer and positive from image right, elevation positive from above.

const RADIUS = 0.8; // of half the canvas; the rest is for lights from behind
const RADIANS = Math.PI / 180;

export function directionOf(azimuth, elevation) {
  const [a, e] = [azimuth * RADIANS, elevation * RADIANS];
  return [Math.sin(a) * Math.cos(e), Math.sin(e), Math.cos(a) * Math.cos(e)];
}

/** Place of a direction on the ball's disc, x right and y up, in radii: 0..1 in front, 1..1.2 from behind. */
export function placeOf([x, y, z]) {
  const side = Math.hypot(x, y);
  if (side < 1e-6) return z >= 0 ? [0, 0] : [0, 1.2];
  const angle = Math.atan2(side, z);
  const radius = z >= 0 ? side : 1 + (angle - Math.PI / 2) / (Math.PI / 2) * 0.2;
  return [x / side * radius, y / side * radius];
}

/** Azimuth and elevation of a place on the disc (radii, y up). Up to the rim the light stands over that point of the surface; one radius
 *  beyond the rim it stands right behind. */
export function anglesAt(x, y) {
  const radius = Math.hypot(x, y);
  const angle = radius <= 1 ? Math.asin(radius) : Math.min(Math.PI, Math.PI / 2 * radius);
  const scale = radius > 0 ? Math.sin(angle) / radius : 0;
  const [dx, dy, dz] = [x * scale, y * scale, Math.cos(angle)];
  return [Math.atan2(dx, dz) / RADIANS, Math.asin(Math.max(-1, Math.min(1, dy))) / RADIANS];
}

export class Ball {
  /** handlers: start() of a press, move(azimuth, elevation), end(), reset() by double click, nudge(dAzimuth, dElevation) by arrow keys. */
  constructor(canvas, handlers) {
    this.canvas = canvas;
    let held = null;
    const move = (event) => {
      const box = canvas.getBoundingClientRect();
      const unit = (box.width / 2) * RADIUS;
      handlers.move(...anglesAt((event.clientX - box.left - box.width / 2) / unit, (box.top + box.height / 2 - event.clientY) / unit));
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      event.stopPropagation();
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      held = event.pointerId;
      handlers.start();
      move(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerId === held) move(event);
    });
    const end = (event) => {
      if (event.pointerId !== held) return;
      held = null;
      handlers.end();
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("dblclick", (event) => {
      event.stopPropagation();
      handlers.reset();
    });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5] }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      handlers.nudge(...step);
    });
  }

  /** A grey ball under a light; dim if the light is only the photo's own. strength 0..1. */
  draw({ azimuth, elevation, strength, on }) {
    const state = `${azimuth} ${elevation} ${strength} ${on}`;
    const side = Math.round(this.canvas.clientWidth * Math.max(2, globalThis.devicePixelRatio || 1)) || 144;
    if (state === this.drawn && side === this.canvas.width) return;
    this.drawn = state;
    this.canvas.width = this.canvas.height = side;
    const context = this.canvas.getContext("2d");
    const light = directionOf(azimuth, elevation);
    const pixels = context.createImageData(side, side);
    const radius = (side / 2) * RADIUS;
    for (let row = 0, at = 0; row < side; row++) {
      for (let column = 0; column < side; column++, at += 4) {
        const x = (column + 0.5 - side / 2) / radius;
        const y = (side / 2 - row - 0.5) / radius;
        const square = x * x + y * y;
        const cover = Math.min(1, Math.max(0, (1 - Math.sqrt(square)) * radius + 0.5)); // smooth rim
        if (cover === 0) continue;
        const z = Math.sqrt(Math.max(0, 1 - square));
        const facing = Math.max(0, x * light[0] + y * light[1] + z * light[2]);
        const shade = 0.1 + 0.42 * (1 - strength) + (0.3 + 0.75 * strength) * facing * (on ? 1 : 0.8);
        const value = 255 * Math.min(1, Math.pow(Math.min(1, shade), 1 / 1.15)) * (on ? 1 : 0.75);
        pixels.data[at] = value;
        pixels.data[at + 1] = value * (on ? 0.97 : 1);
        pixels.data[at + 2] = value * (on ? 0.88 : 1);
        pixels.data[at + 3] = 255 * cover * (on ? 1 : 0.6);
      }
    }
    context.putImageData(pixels, 0, 0);
    const [x, y] = placeOf(light);
    context.beginPath();
    context.arc(side / 2 + x * radius * 0.97, side / 2 - y * radius * 0.97, side * 0.05, 0, 2 * Math.PI);
    context.lineWidth = side / 48;
    context.strokeStyle = on ? "rgba(40,30,0,.75)" : "rgba(0,0,0,.45)";
    context.fillStyle = on ? "#ffd34d" : "rgba(255,255,255,.45)";
    if (light[2] >= 0) context.fill(); // a ring: from behind
    else context.strokeStyle = on ? "#ffd34d" : "rgba(255,255,255,.6)";
    context.stroke();
  }
}
