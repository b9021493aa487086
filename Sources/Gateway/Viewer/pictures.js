// A picture for every lot: the seller's, or one drawn for its kind.

const shapes = {
  watch: '<circle cx="50" cy="50" r="24"/><path d="M40 28l3-18h14l3 18M40 72l3 18h14l3-18M50 36v14l9 6"/>',
  camera: '<rect x="16" y="34" width="68" height="42" rx="6"/><circle cx="50" cy="55" r="14"/><circle cx="50" cy="55" r="6"/><path d="M34 34l5-8h22l5 8M74 42h4"/>',
  chair: '<path d="M28 22c0 20 4 30 10 34h30c6 0 10-6 10-14M38 56l-8 12h42M50 68v12M36 88l14-8 14 8"/>',
  computer: '<rect x="32" y="14" width="36" height="70" rx="6"/><rect x="38" y="22" width="24" height="34"/><circle cx="50" cy="70" r="5"/>',
  record: '<circle cx="50" cy="50" r="36"/><circle cx="50" cy="50" r="24"/><circle cx="50" cy="50" r="11"/><circle cx="50" cy="50" r="2"/>',
  rug: '<rect x="20" y="14" width="60" height="72"/><rect x="28" y="22" width="44" height="56"/><path d="M50 30l14 20-14 20-14-20zM20 90v-4M35 90v-4M50 90v-4M65 90v-4M80 90v-4"/>',
  lamp: '<path d="M26 50l12-32h24l12 32zM50 50v30M36 86h28M44 50v8"/>',
  poster: '<rect x="24" y="12" width="52" height="76"/><circle cx="58" cy="34" r="8"/><path d="M24 72l16-22 14 16 8-8 14 16"/>',
  telescope: '<path d="M18 46l50-22 8 16-50 22zM48 52l-14 36M50 52l16 36M44 54l-2-8"/>',
  scooter: '<circle cx="24" cy="74" r="11"/><circle cx="76" cy="74" r="11"/><path d="M24 74h30l8-20h18l4 16M62 54l-8-32h-10M66 46h18"/>',
  house: '<path d="M18 48l32-28 32 28M26 44v40h48V44M42 84V62h16v22"/>',
  gavel: '<path d="M30 40l20-20 18 18-20 20zM56 50l26 26M22 84h36"/>',
};

const words = {
  watch: /watch|cartier|omega|rolex|speedmaster/i, camera: /leica|camera|summicron|nikon/i, chair: /chair|sofa|table|furniture/i,
  computer: /palm|xbox|console|computer|phone/i, record: /pressing|vinyl|record|album/i, rug: /rug|carpet/i, lamp: /lamp/i,
  poster: /poster|painting|print|hockney|art/i, telescope: /telescope|ship/i, scooter: /vespa|scooter|car|bike/i, house: /house|flat/i,
};

/** An element that shows the lot. */
export function picture(details) {
  const [address] = details?.image_urls ?? [];
  if (address) {
    const image = new Image();
    Object.assign(image, { src: address, alt: '', loading: 'lazy', decoding: 'async', referrerPolicy: 'no-referrer' });
    return image;
  }
  const kindOf = (text) => Object.keys(words).find((name) => words[name].test(text));
  const kind = kindOf(details?.title ?? '') ?? kindOf(details?.category ?? '') ?? 'gavel';
  const box = document.createElement('span');
  box.className = `drawn ${kind}`;
  box.innerHTML = `<svg viewBox="0 0 100 100" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2.5" stroke-linejoin="round" stroke-linecap="round">${shapes[kind]}</svg>`;
  return box;
}
