// How amounts and times are written and read.

const decimalsOf = (currency) => {
  try {
    return new Intl.NumberFormat('en', { style: 'currency', currency }).resolvedOptions().maximumFractionDigits;
  } catch {
    return 2;
  }
};

// Making a format costs more than a hundred uses of it.
const formats = new Map();

/** An amount in its currency, as the reader's language writes it. */
export function money(amount, currency) {
  const isWhole = Number.isInteger(amount);
  const key = `${currency} ${isWhole}`;
  if (!formats.has(key)) {
    const digits = isWhole ? 0 : decimalsOf(currency);
    try {
      formats.set(key, new Intl.NumberFormat(undefined, { style: 'currency', currency, minimumFractionDigits: digits, maximumFractionDigits: digits }));
    } catch {
      formats.set(key, { format: (value) => `${currency} ${value}` });
    }
  }
  return formats.get(key).format(amount);
}

/** How the currency is marked: `$`, `US$`. */
const signsOf = (currency) => ['symbol', 'narrowSymbol'].map((currencyDisplay) => {
  try {
    const parts = new Intl.NumberFormat('en', { style: 'currency', currency, currencyDisplay }).formatToParts(1);
    return parts.find(({ type }) => type === 'currency').value;
  } catch {
    return currency;
  }
});

/** The separators of the reader's language: `{ group, decimal }`. */
const separators = (locale) => {
  const parts = new Intl.NumberFormat(locale).formatToParts(1_234_567.8);
  const find = (type) => parts.find((part) => part.type === type)?.value ?? '';
  return { group: find('group'), decimal: find('decimal') };
};

/**
 * Reads an amount as people type it.
 * @returns {{ amount: number, isCertain: boolean } | { error: string } | null} null for an empty field; `isCertain` is
 *   false where another reader could read another amount
 */
export function parseAmount(text, currency, locale) {
  const digits = decimalsOf(currency);
  const sign = /\p{Sc}|[A-Z]{3}/u.exec(text)?.[0];
  if (sign && sign !== currency && !signsOf(currency).some((own) => own.includes(sign))) return { error: `This lot is sold in ${currency}.` };
  const bare = text.replace(/[\s\u00a0\u202f'’]/g, '').replace(/\p{Sc}|^[A-Z]{3}|[A-Z]{3}$/gu, '');
  if (bare === '') return text.trim() === '' ? null : { error: 'That is not an amount.' };
  if (!/^\d[\d.,]*$/.test(bare)) return { error: 'That is not an amount.' };
  const marks = bare.match(/[.,]/g) ?? [];
  const kinds = new Set(marks);
  const last = Math.max(bare.lastIndexOf('.'), bare.lastIndexOf(','));
  const behind = last < 0 ? 0 : bare.length - last - 1;
  const { group, decimal } = separators(locale);
  const grouped = (mark) => new RegExp(`^\\d{1,3}(\\${mark}\\d{3})+$`);
  let whole = bare;
  let fraction = '';
  let isCertain = true;
  if (kinds.size === 2) {
    // Both marks: the last one is the decimal mark, and the other groups thousands.
    const other = bare[last] === '.' ? ',' : '.';
    if (marks.filter((mark) => mark === bare[last]).length > 1) return { error: 'That is not an amount.' };
    whole = bare.slice(0, last);
    fraction = bare.slice(last + 1);
    if (!grouped(other).test(whole)) return { error: 'That is not an amount.' };
    isCertain = fraction.length <= digits;
  } else if (marks.length > 1) {
    if (!grouped(marks[0]).test(bare)) return { error: 'That is not an amount.' };
  } else if (marks.length === 1) {
    const mark = marks[0];
    const looksGrouped = grouped(mark).test(bare);
    if (looksGrouped && mark === group && behind !== digits) whole = bare;
    else if (looksGrouped && digits < 3) isCertain = false;
    else {
      whole = bare.slice(0, last);
      fraction = bare.slice(last + 1);
      isCertain = mark === decimal;
    }
  }
  if (fraction.length > digits) return { error: digits ? `At most ${digits} decimals.` : 'Whole amounts only.' };
  const amount = Number(`${whole.replace(/[.,]/g, '')}.${fraction || 0}`);
  return amount > 0 && Number.isSafeInteger(Math.round(amount * 10 ** digits)) ? { amount, isCertain } : { error: 'That is not an amount.' };
}

/** Milliseconds as d h, h:mm:ss or m:ss; never negative. */
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
  const two = (n) => String(n).padStart(2, '0');
  const [d, h, m, s] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  if (d > 0) return `${d} d ${h} h`;
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** How long ago, in words short enough for a list. */
export function ago(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 2) return 'now';
  if (seconds < 60) return `${seconds} s ago`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min ago` : `${Math.floor(seconds / 3600)} h ago`;
}

/** A moment as the reader's clock shows it; with the day where that is another one. */
export function moment(text) {
  const time = new Date(text);
  const isToday = time.toDateString() === new Date().toDateString();
  return time.toLocaleString(undefined, { ...(isToday ? {} : { month: 'short', day: 'numeric' }), hour: 'numeric', minute: '2-digit', second: '2-digit' });
}
