// What screen readers say: one polite region that speaks at most every five seconds. The newest word wins. And a line
// that everybody sees for a while.

const PAUSE_MS = 5_000;
const region = document.getElementById('speech');
let waiting = '';
let timer = 0;

export function say(words) {
  waiting = words;
  if (timer) return;
  speak();
}

function speak() {
  region.textContent = waiting;
  waiting = '';
  timer = setTimeout(() => {
    timer = 0;
    if (waiting) speak();
  }, PAUSE_MS);
}

const TOAST_MS = 10_000;
const toast = document.getElementById('toast');
let hiding = 0;

/** Says it, and shows it for a while wherever the reader is. */
export function tell(words) {
  say(words);
  toast.textContent = words;
  toast.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => {
    toast.hidden = true;
  }, TOAST_MS);
}
