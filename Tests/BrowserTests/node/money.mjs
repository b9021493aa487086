// What people type as an amount, and what is read. Run with the folder of the page's scripts.
import assert from 'node:assert/strict';

const { parseAmount, money, duration, ago } = await import(`${process.argv[2]}/money.js`);
const sure = (amount) => ({ amount, isCertain: true });
const ask = (amount) => ({ amount, isCertain: false });

for (const [text, currency, locale, expected] of [
  ['', 'USD', 'en-US', null], ['   ', 'USD', 'en-US', null],
  ['300', 'USD', 'en-US', sure(300)], ['$300', 'USD', 'en-US', sure(300)], ['300 $', 'USD', 'en-US', sure(300)],
  ['USD 300', 'USD', 'en-US', sure(300)], ['1,200', 'USD', 'en-US', sure(1200)], ['1,200.50', 'USD', 'en-US', sure(1200.5)],
  ['1,200,300', 'USD', 'en-US', sure(1200300)], ['1.200,50', 'USD', 'en-US', sure(1200.5)], ['12.5', 'USD', 'en-US', sure(12.5)],
  ['1.200', 'USD', 'en-US', ask(1200)], ['12,50', 'USD', 'en-US', ask(12.5)], ['1,2', 'USD', 'en-US', ask(1.2)],
  ['1.200', 'EUR', 'de-DE', sure(1200)], ['1.200,50', 'EUR', 'de-DE', sure(1200.5)], ['1200,5', 'EUR', 'de-DE', sure(1200.5)],
  ['1,200', 'EUR', 'de-DE', ask(1200)], ['12.50', 'EUR', 'de-DE', ask(12.5)], ['1 200,50', 'EUR', 'fr-FR', sure(1200.5)],
  ["1'200.50", 'CHF', 'de-CH', sure(1200.5)], ['¥1,200', 'JPY', 'ja-JP', sure(1200)], ['1.200', 'KWD', 'en-US', sure(1.2)],
  ['1,200', 'KWD', 'en-US', ask(1.2)],
]) {
  const read = parseAmount(text, currency, locale);
  assert.deepEqual(read, expected, `“${text}” in ${locale} ${currency}: ${JSON.stringify(read)}`);
}
for (const [text, currency] of [
  ['abc', 'USD'], ['1.2.3', 'USD'], ['1,20,0', 'USD'], ['-5', 'USD'], ['1e3', 'USD'], ['0', 'USD'], ['1.234567', 'USD'], ['12.5', 'JPY'],
  ['€300', 'USD'], ['EUR 300', 'USD'], ['£5', 'EUR'], ['1,2.3,4', 'USD'], ['$', 'USD'], ['9'.repeat(20), 'USD'], ['1.200,505', 'USD'],
]) assert.ok(parseAmount(text, currency, 'en-US').error, `“${text}” ${JSON.stringify(parseAmount(text, currency, 'en-US'))}`);

assert.equal(money(1200, 'USD').replace(/\u00a0/g, ' '), '$1,200');
assert.equal(money(1200.5, 'USD'), '$1,200.50');
assert.equal(duration(61_000), '1:01');
assert.equal(ago(61_000), '1 min ago');
console.log('amounts are read as meant');
