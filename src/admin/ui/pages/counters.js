// Looks at the counters of a request, and changes them.

import {call} from '../api.js';
import {card, code, el, empty, fill} from '../dom.js';
import {count, duration} from '../format.js';
import {callLink, ruleLink} from '../links.js';
import {every} from '../live.js';
import {readParameters} from '../paste.js';
import {pasteCard} from '../paste_card.js';
import {table} from '../table.js';
import {value, words} from '../text.js';

export function counters(main, {parameters, signal}) {
	const asked = readParameters(parameters);
	const result = el('div');
	fill(main, el('h1', {}, 'Counters'), pasteCard('counters', 'Look', asked), result);
	if (!asked) {
		fill(result, empty('Paste a request above, or come here from the page Why.'));
		return;
	}
	const said = el('p', {role: 'status'});
	const {hitsAddend, ...request} = asked;
	const refresh = () => look();
	const grid = counterTable(row => changeCell(row, request, said, refresh));
	fill(
		result,
		card('Now', el('a', {href: callLink('why', asked)}, 'why?'), grid.element, said),
		el(
			'p',
			{class: 'soft'},
			'A change is logged with the name of your token. A hit that arrives at the same time counts.',
		),
	);
	const look = every('counters', 2, signal, async () => {
		const answer = await call('v1/counters/look', {body: request, signal});
		grid.update(rows(answer));
	});
}

function rows(answer) {
	return answer.descriptors.flatMap((descriptor, index) =>
		descriptor.counters.length === 0
			? [{id: `${index}`, descriptor, counter: null}]
			: descriptor.counters.map(counter => ({
					id: `${index} ${counter.counter}`,
					descriptor,
					counter,
				})),
	);
}

function counterTable(changes) {
	const number = (title, show) => ({
		title,
		kind: 'number',
		cell: row => (row.counter?.found ? show(row.counter.found) : '–'),
	});
	return table({
		caption: 'The counters of this request',
		columns: [
			{title: 'rule and limit', kind: 'fixed wide', cell: limitCell},
			{
				title: 'counter',
				cell: row => (row.counter ? code(row.counter.counter) : value(row.descriptor.noLimit ?? '', 300)),
			},
			number('used', found => count(found.used)),
			number('left', found => count(found.remaining)),
			number('unused in', found => duration(found.resetSeconds)),
			number('banned for', found => (found.bannedSeconds ? duration(found.bannedSeconds) : '–')),
			{title: 'change', kind: 'fixed', cell: changes},
		],
		key: row => row.id,
		empty: () => empty('This request has no descriptors.'),
	});
}

function limitCell({descriptor, counter}) {
	const {rule} = descriptor;
	const name = rule ? el('a', {href: ruleLink(rule.name)}, value(rule.name, 64)) : 'no rule';
	if (!counter) return el('div', {}, name);
	const effect = counter.effect === 'enforced' ? null : el('span', {class: 'tag'}, counter.effect);
	return el('div', {}, name, effect, el('div', {class: 'soft'}, words(counter.limit.text, 80)));
}

// The controls of one counter. A change is asked for twice.
function changeCell({counter}, request, said, refresh) {
	if (!counter) return '';
	const used = el('input', {
		type: 'number',
		min: 0,
		step: 1,
		value: 0,
		class: 'used',
		'aria-label': 'Hits to set',
	});
	const change = async (path, query, done) => {
		try {
			const answer = await call(path, {query: {...query, limit: counter.counter}, body: request});
			const changed = answer.descriptors.flatMap(it => it.counters).find(it => it.counter === counter.counter);
			fill(
				said,
				changed?.error
					? words(changed.error, 300)
					: `${done} ${count(changed?.found?.used ?? 0)} hits were counted before.`,
			);
		} catch (failure) {
			fill(said, words(failure.detail ?? String(failure), 300), '. ', failure.advice ?? '');
		}
		refresh();
	};
	return el(
		'div',
		{class: 'change'},
		twice('Reset', () => change('v1/counters/reset', {}, 'The counter was reset.')),
		twice('Set to', () =>
			change(
				'v1/counters/set',
				{used: String(Math.max(0, Math.floor(Number(used.value) || 0)))},
				'The counter was set.',
			),
		),
		used,
	);
}

// A button that asks once more.
function twice(title, action) {
	let isAsked = false;
	const button = el('button', {type: 'button', class: 'quiet', click, blur: calm}, title);
	function calm() {
		isAsked = false;
		button.textContent = title;
		button.className = 'quiet';
	}
	function click() {
		if (isAsked) {
			calm();
			action();
			return;
		}
		isAsked = true;
		button.textContent = 'Sure?';
		button.className = 'danger';
	}
	return button;
}
