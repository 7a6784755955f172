// Parts of pages that show rules.

import {call} from './api.js';
import {el} from './dom.js';
import {count, percent} from './format.js';
import {ruleLink} from './links.js';
import {shortValue, value, words} from './text.js';

// The most rules that a page reads.
const MOST_PAGES = 5;

// The rules in force, up to 5,000; `isComplete` says whether there are more.
export async function allRules(query, signal) {
	const items = [];
	let after;
	for (let page = 0; page < MOST_PAGES; page += 1) {
		const answer = await call('v1/rules', {query: {...query, after, limit: 1000}, signal});
		items.push(...answer.items);
		after = answer.next;
		if (after === null) break;
	}
	items.isComplete = after === null;
	return items;
}

export function limitTexts(item) {
	if (!item.limits.length) return el('span', {class: 'soft'}, 'no limit');
	const lines = item.limits.map(limit => el('div', {}, words(limit.text, 160)));
	return el('div', {class: 'limits'}, lines);
}

export function ruleColumn() {
	return {
		title: 'rule',
		kind: 'fixed wide',
		cell: item =>
			el(
				'div',
				{},
				el('a', {href: ruleLink(item.rule.name)}, shortValue(item.rule.name, 96)),
				item.shadowMode && el('span', {class: 'tag would'}, 'shadow'),
				item.quotaMode && el('span', {class: 'tag'}, 'quota'),
				el('div', {class: 'soft place'}, value(item.rule.place)),
			),
	};
}

// The hits of the last minute.
export function useColumns() {
	const minute = item => item.hits.lastMinute;
	const number = (item, name) => (minute(item) ? count(minute(item)[name]) : '–');
	return [
		{title: 'passed/min', kind: 'number', cell: item => number(item, 'passed')},
		{title: 'refused/min', kind: 'number refused', cell: item => number(item, 'refused')},
		{
			title: 'share',
			kind: 'number share refused',
			bar: item => share(minute(item)),
			cell: item => (minute(item) ? percent(minute(item).refused, total(minute(item))) : '–'),
		},
		{title: 'would refuse/min', kind: 'number would', cell: item => number(item, 'wouldRefuse')},
	];
}

function total(hits) {
	return hits.passed + hits.refused;
}

function share(hits) {
	return hits && total(hits) ? hits.refused / total(hits) : 0;
}
