// What screen readers say: one polite region that speaks at most every five seconds. The newest word wins.

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
