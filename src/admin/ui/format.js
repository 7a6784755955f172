// Numbers and times as text.

import {el} from './dom.js';

const WHOLE = new Intl.NumberFormat('en', {maximumFractionDigits: 0});
const AT_MOST_TENTHS = new Intl.NumberFormat('en', {maximumFractionDigits: 1});
const TENTHS = new Intl.NumberFormat('en', {minimumFractionDigits: 1, maximumFractionDigits: 1});

export function count(number) {
	return WHOLE.format(number);
}

// Hits in a second.
export function rate(number) {
	if (number === 0) return '0';
	if (number < 0.05) return '< 0.1';
	return number < 100 ? TENTHS.format(number) : WHOLE.format(number);
}

// A number at an axis.
export function tick(number) {
	return AT_MOST_TENTHS.format(number);
}

export function percent(part, whole) {
	if (!(0 < whole)) return '0 %';
	const share = (100 * part) / whole;
	if (0 < share && share < 0.1) return '< 0.1 %';
	return `${share < 10 && share !== 0 ? TENTHS.format(share) : WHOLE.format(share)} %`;
}

export function bytes(number) {
	if (number < 1024) return `${count(number)} B`;
	if (number < 1024 ** 2) return `${TENTHS.format(number / 1024)} KiB`;
	if (number < 1024 ** 3) return `${TENTHS.format(number / 1024 ** 2)} MiB`;
	return `${TENTHS.format(number / 1024 ** 3)} GiB`;
}

const UNITS = [
	[86_400, 'd'],
	[3_600, 'h'],
	[60, 'min'],
	[1, 's'],
];

// Seconds in the two largest units.
export function duration(seconds) {
	const whole = Math.max(0, Math.round(seconds));
	const first = UNITS.findIndex(([size]) => size <= whole);
	if (first === -1) return '0 s';
	const [size, unit] = UNITS[first];
	const text = `${count(Math.floor(whole / size))} ${unit}`;
	if (first + 1 === UNITS.length) return text;
	const [smaller, smallerUnit] = UNITS[first + 1];
	const rest = Math.floor((whole % size) / smaller);
	return rest ? `${text} ${rest} ${smallerUnit}` : text;
}

export function clock(date, withSeconds = true) {
	const two = number => String(number).padStart(2, '0');
	const minutes = `${two(date.getHours())}:${two(date.getMinutes())}`;
	return withSeconds ? `${minutes}:${two(date.getSeconds())}` : minutes;
}

// The time of day; the whole time in UTC is its title.
export function timeOfDay(text) {
	return el('time', {datetime: text, title: text}, clock(new Date(text)));
}

// The time since `text`, by the clock of the server.
export function age(text, now) {
	const seconds = (new Date(now) - new Date(text)) / 1000;
	return el('time', {datetime: text, title: text}, `${duration(seconds)} ago`);
}
