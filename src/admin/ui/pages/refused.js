// The latest refusals, as they happen.

import {call} from '../api.js';
import {card, el, empty, fill, setText} from '../dom.js';
import {count, duration, timeOfDay} from '../format.js';
import {refusedLink, ruleLink, whyLink} from '../links.js';
import {every} from '../live.js';
import {table} from '../table.js';
import {descriptor, printable, shortValue, value, words} from '../text.js';

const MOST_KEPT = 1_000;
const MOST_ROWS = 200;

export function refused(main, {parameters, signal}) {
	const filters = {
		domain: parameters.get('domain') ?? '',
		rule: parameters.get('rule') ?? '',
		find: parameters.get('find') ?? '',
	};
	let items = [];
	let after = null;
	const note = el('p', {class: 'soft'});
	const grid = table({
		caption: 'The latest refusals, the newest first',
		columns: [
			{title: 'time', kind: 'fixed', cell: item => timeOfDay(item.at)},
			{
				title: 'descriptor',
				kind: 'fixed',
				cell: item =>
					el(
						'a',
						{
							href: whyLink(item, {hits: item.hits === 1 ? null : item.hits, refusal: item.number}),
							title: 'Why?',
						},
						descriptor(item.entries, item.cut),
					),
			},
			{title: 'domain', kind: 'fixed', cell: item => value(item.domain, 32)},
			{title: 'rule and limit', kind: 'fixed wide', cell: ruleCell},
			{title: 'hits', kind: 'number', cell: item => count(item.hits)},
			{title: 'left', kind: 'number', cell: item => count(item.remaining)},
			{
				title: 'passes in',
				kind: 'number',
				cell: item => (item.waitSeconds === null ? 'never' : duration(item.waitSeconds)),
			},
		],
		key: item => item.number,
		empty: () =>
			Object.values(filters).some(Boolean)
				? empty('No refusal that is kept passes these filters.')
				: empty(
						'Nothing has been refused since the start.',
						'Refusals appear here within a second. \
Send more than a limit allows, for example with: tollgate hit --domain DOMAIN KEY=VALUE --hits 1000',
					),
	});

	function show() {
		const wanted = filters.find.toLowerCase();
		const found = items.filter(
			item =>
				item.descriptor.toLowerCase().includes(wanted) ||
				printable(item.entries.map(({key, value: text}) => `${key}=${text}`).join())
					.toLowerCase()
					.includes(wanted),
		);
		grid.update(found.slice(0, MOST_ROWS));
	}

	const input = (name, label, hint) => {
		const field = el('input', {
			type: 'search',
			id: `filter-${name}`,
			spellcheck: 'false',
			placeholder: hint,
			value: filters[name],
		});
		field.addEventListener('input', () => {
			filters[name] = field.value;
			history.replaceState(null, '', refusedLink(filters));
			if (name === 'find') return show();
			items = [];
			after = null;
			refresh();
		});
		return el('label', {class: 'inline'}, label, ' ', field);
	};
	fill(
		main,
		el('h1', {}, 'Refused'),
		card(
			'The latest',
			[
				input('domain', 'domain', 'whole name'),
				input('rule', 'rule', 'whole name'),
				input('find', 'descriptor', 'a part of it'),
			],
			grid.element,
			note,
		),
	);

	const refresh = every('refusals', 1, signal, async () => {
		const asked = `${filters.domain}\n${filters.rule}`;
		const answer = await call('v1/refusals', {
			query: {
				domain: filters.domain,
				rule: filters.rule,
				after,
				limit: after === null ? MOST_ROWS : MOST_KEPT,
			},
			signal,
		});
		if (asked !== `${filters.domain}\n${filters.rule}`) return;
		// Another process counts from the beginning.
		if (after !== null && answer.next < after) items = [];
		after = answer.next;
		items = [...answer.items.toReversed(), ...items].slice(0, MOST_KEPT);
		setText(
			note,
			answer.notRecorded
				? `${count(answer.notRecorded)} refusals since the start are not in this list: \
at most 100 in a second are recorded. Their number is complete on the other pages.`
				: '',
		);
		show();
	});
}

function ruleCell(item) {
	const limit = el(
		'div',
		{class: 'soft'},
		words(item.limit.text, 80),
		item.limit.name && [' (', words(item.limit.name, 40), ')'],
	);
	const policy =
		item.policy && el('span', {class: 'tag would', title: 'The counter store did not answer'}, `policy ${item.policy}`);
	if (!item.rule) return el('div', {}, 'limit of the request', policy, limit);
	const link = el('a', {href: ruleLink(item.rule.name), title: item.rule.place}, shortValue(item.rule.name, 64));
	return el('div', {}, link, policy, limit);
}
