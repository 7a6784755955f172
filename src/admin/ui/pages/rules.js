// All rules in force with their use.

import {card, choice, el, empty, fill, setText} from '../dom.js';
import {count} from '../format.js';
import {every} from '../live.js';
import {allRules, limitTexts, ruleColumn, useColumns} from '../rule_parts.js';
import {table} from '../table.js';
import {value} from '../text.js';

// The most rows: a browser would take long for more.
const MOST_ROWS = 300;

const ORDERS = {
	place: () => 0,
	refused: item => item.hits.lastMinute?.refused ?? -1,
	would: item => item.hits.lastMinute?.wouldRefuse ?? -1,
	hits: ({hits: {lastMinute}}) => (lastMinute ? lastMinute.passed + lastMinute.refused : -1),
};

export function rules(main, {parameters, signal}) {
	let items = [];
	let order = 'place';
	const find = el('input', {
		type: 'search',
		id: 'find',
		spellcheck: 'false',
		placeholder: 'name, place or limit',
		input: show,
	});
	find.value = parameters.get('find') ?? '';
	const note = el('p', {class: 'soft'});
	const grid = table({
		caption: 'Rules in force',
		columns: [
			ruleColumn(),
			{title: 'domain', cell: item => value(item.domain, 40)},
			{title: 'limits', cell: limitTexts},
			...useColumns(),
			{title: 'passed, all', kind: 'number', cell: item => count(item.hits.total.passed)},
			{title: 'refused, all', kind: 'number', cell: item => count(item.hits.total.refused)},
		],
		key: item => `${item.rule.name} ${item.rule.place}`,
		empty: () =>
			empty(
				items.length ? 'No rule has this in its name, place or limits.' : 'No rules are loaded.',
				...(items.length ? [] : ['The page Health has the mistakes of rules that were rejected.']),
			),
	});

	function show() {
		const wanted = find.value.toLowerCase();
		const found = items.filter(({rule, limits}) =>
			[rule.name, rule.place, ...limits.map(it => it.text)].some(text => text.toLowerCase().includes(wanted)),
		);
		const sorted = found.toSorted((a, b) => ORDERS[order](b) - ORDERS[order](a));
		grid.update(sorted.slice(0, MOST_ROWS));
		const hidden = found.length - MOST_ROWS;
		setText(
			note,
			[
				0 < hidden && `${count(hidden)} more match: write more of the name.`,
				items.isComplete === false && `Only the first ${count(items.length)} rules are searched.`,
			]
				.filter(Boolean)
				.join(' '),
		);
	}

	const pick = choice(
		'first',
		[
			['place', 'as in the files'],
			['refused', 'most refused'],
			['would', 'most that would be refused'],
			['hits', 'most hits'],
		],
		order,
		picked => {
			order = picked;
			show();
		},
	);
	fill(
		main,
		el('h1', {}, 'Rules'),
		card(
			el('label', {class: 'inline'}, 'find ', find),
			pick,
			grid.element,
			note,
			el('p', {class: 'soft'}, 'Counts of hits: in the last minute, and all since the rule was loaded.'),
		),
	);
	every('rules', 3, signal, async () => {
		items = await allRules({}, signal);
		show();
	});
}
