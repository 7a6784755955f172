// The descriptors with most hits.

import {call} from './api.js';
import {choice, el, empty, setText} from './dom.js';
import {count} from './format.js';
import {whyLink} from './links.js';
import {every} from './live.js';
import {table} from './table.js';
import {descriptor, value} from './text.js';

const TOPS = [
	{by: 'refused', title: 'Most refused', none: 'No hit was refused in this time.'},
	{by: 'hits', title: 'Most hits', none: 'No limited hit has arrived in this time.'},
	{
		by: 'would_refuse',
		title: 'Most that would be refused',
		none: 'No rule with shadow_mode was exceeded in this time.',
	},
];

// The descriptors with most hits, side by side. `query` selects some of them.
export function topCards(signal, query = {}) {
	let span = '10m';
	const grids = TOPS.map(({by, title, none}) => topTable(by, title, none, query.rule !== undefined));
	const refresh = every('top', 3, signal, async () => {
		const asked = span;
		const answers = await Promise.all(
			TOPS.map(({by}) => call('v1/top', {query: {...query, by, window: asked, limit: 10}, signal})),
		);
		if (asked !== span) return;
		for (const [index, answer] of answers.entries()) grids[index].update(answer);
	});
	const pick = choice(
		'last',
		[
			['1m', 'minute'],
			['10m', '10 minutes'],
			['1h', 'hour'],
		],
		span,
		picked => {
			span = picked;
			refresh();
		},
	);
	return el(
		'section',
		{class: 'card'},
		el('div', {class: 'card-head'}, el('h2', {}, 'Clients'), pick),
		el(
			'div',
			{class: 'tops'},
			grids.map(grid => grid.element),
		),
	);
}

function topTable(by, title, none, isOfRule) {
	const note = el('span', {class: 'soft'});
	let most = 1;
	const grid = table({
		caption: title,
		columns: [
			{
				title: 'descriptor',
				kind: 'fixed',
				cell: item => el('a', {href: whyLink(item)}, descriptor(item.entries, item.cut)),
			},
			!isOfRule && {title: 'domain', kind: 'fixed', cell: item => value(item.domain, 24)},
			{
				title: 'hits',
				kind: 'number',
				bar: item => item.hits / most,
				cell: item => count(item.hits),
				hint: 'Where a count is not exact, its title says by how much',
			},
		].filter(Boolean),
		key: item => JSON.stringify([item.domain, item.entries]),
		empty: () => empty(none),
		rowClass: () => by,
	});
	return {
		element: el('div', {class: `top ${by}`}, el('h3', {}, title, ' ', note), grid.element),
		update(answer) {
			most = Math.max(1, ...answer.items.map(item => item.hits));
			setText(note, answer.sampled === 1 ? '' : `(1 decision of ${answer.sampled} is counted)`);
			grid.update(answer.items);
		},
	};
}
