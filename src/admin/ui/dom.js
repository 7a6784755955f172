// Builds elements. Text becomes text nodes, never markup.

import {value} from './text.js';

// An element. `attributes` are set as attributes, functions as listeners; children that are
// null are left out.
export function el(tag, attributes = {}, ...children) {
	const element = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) {
		if (typeof value === 'function') element.addEventListener(name, value);
		else if (value === true) element.setAttribute(name, '');
		else if (value !== false && value != null) element.setAttribute(name, value);
	}
	append(element, children);
	return element;
}

function append(element, children) {
	for (const child of children.flat(Infinity)) {
		if (child != null && child !== false) element.append(child);
	}
}

// Replaces all children.
export function fill(element, ...children) {
	element.replaceChildren();
	append(element, children);
}

// Sets the text if it is another, so that a selection survives.
export function setText(element, text) {
	if (element.textContent !== text) element.textContent = text;
}

// A box with a heading, or controls in its place. `extra` is shown at its right.
export function card(title, extra, ...children) {
	const left = title instanceof Node ? title : el('h2', {}, title);
	const head = el('div', {class: 'card-head'}, left, extra);
	return el('section', {class: 'card'}, head, children);
}

// A list of names and values.
export function facts(pairs) {
	const list = el('dl', {class: 'facts'});
	for (const [name, value] of pairs) {
		if (value != null) list.append(el('dt', {}, name), el('dd', {}, value));
	}
	return list;
}

// A word with a coloured dot: `good`, `warn`, `bad` or `idle`.
export function state(kind, text) {
	return el('span', {class: `state ${kind}`}, text);
}

// A command or a name to copy.
export function code(text) {
	return el('code', {}, value(text));
}

// What to do where there is nothing to show.
export function empty(text, ...next) {
	return el(
		'div',
		{class: 'empty'},
		el('p', {}, text),
		next.map(line => el('p', {}, line)),
	);
}

// One of several choices. `onPick` is called with each new one.
export function choice(label, options, picked, onPick) {
	const select = el('select', {change: () => onPick(select.value)});
	for (const [value, text] of options) {
		select.append(el('option', {value, selected: value === picked}, text));
	}
	return el('label', {class: 'inline'}, label, ' ', select);
}
