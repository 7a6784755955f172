// Shows the text of others: clients choose the values of descriptors.

// Characters that are invisible, move the text or change its direction, and spaces that look
// like the usual one.
const HIDDEN = /(?:[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{DI}]|(?! )\p{Zs})+/gu;

const SHORT = {'\n': '\\n', '\r': '\\r', '\t': '\\t'};

// The most characters that are shown at once.
const MOST = 96;

// The most characters that are shown on demand: a browser would take long for more.
const MOST_ON_DEMAND = 100_000;

function escaped(text) {
	let result = '';
	for (const character of text) {
		result += SHORT[character] ?? `\\u{${character.codePointAt(0).toString(16)}}`;
	}
	return result;
}

// The text with all hidden characters escaped, as the command line shows it.
export function printable(text) {
	return text.replace(HIDDEN, escaped);
}

// A value as JSON in which all hidden characters are escaped.
export function printableJson(value) {
	return JSON.stringify(value).replace(HIDDEN, text =>
		Array.from({length: text.length}, (_, index) => `\\u${text.charCodeAt(index).toString(16).padStart(4, '0')}`).join(
			'',
		),
	);
}

function appendVisible(element, text) {
	let start = 0;
	for (const match of text.matchAll(HIDDEN)) {
		if (start < match.index) element.append(text.slice(start, match.index));
		const escape = document.createElement('span');
		escape.className = 'escape';
		escape.textContent = escaped(match[0]);
		element.append(escape);
		start = match.index + match[0].length;
	}
	if (start < text.length) element.append(text.slice(start));
}

// The first characters of a text, without half of the last one.
function beginning(text, most) {
	const cut = text.slice(0, most);
	return /[\ud800-\udbff]$/.test(cut) ? cut.slice(0, -1) : cut;
}

// A value in an element of its own, so that its direction does not change the text around it.
// Hidden characters are escaped. The end of a long value is shown on demand.
export function value(text, most = MOST) {
	const element = document.createElement('bdi');
	element.className = 'value';
	if (text.length <= most) {
		appendVisible(element, text);
		return element;
	}
	const start = beginning(text, most);
	const rest = (text.length - start.length).toLocaleString('en');
	appendVisible(element, start);
	const more = document.createElement('button');
	more.type = 'button';
	more.className = 'more';
	more.textContent = `+${rest}`;
	more.setAttribute('aria-label', `Show ${rest} more characters`);
	more.addEventListener('click', () => {
		element.replaceChildren();
		element.classList.add('whole');
		element.tabIndex = 0;
		appendVisible(element, beginning(text, MOST_ON_DEMAND));
		if (MOST_ON_DEMAND < text.length) element.append(' (the rest is not shown)');
		element.focus();
	});
	element.append(more);
	return element;
}

// A text of tollgate itself, such as a limit, which may have names of others in it.
export function words(text, most = MOST) {
	const element = value(text, most);
	element.classList.add('words');
	return element;
}

// A value within a link: the end of a long one is left out.
export function shortValue(text, most = 48) {
	const element = document.createElement('bdi');
	element.className = 'value';
	appendVisible(element, beginning(text, most));
	if (most < text.length) {
		element.append('…');
		element.title = printable(beginning(text, 1000));
	}
	return element;
}

// The entries of a descriptor, for a link.
export function descriptor(entries, isCut = false) {
	const element = document.createElement('span');
	element.className = 'descriptor';
	for (const [index, entry] of entries.entries()) {
		if (index) element.append(', ');
		const key = shortValue(entry.key);
		key.classList.add('key');
		element.append(key, '=', shortValue(entry.value));
	}
	if (isCut && !element.textContent.endsWith('…')) element.append('…');
	if (isCut) element.title = 'The end is not kept: the descriptor has more than 128 bytes';
	return element;
}
