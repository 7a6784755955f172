// The way of a request through the rules, as /v1/explain reports it.

import {card, code, el, facts, fill} from './dom.js';
import {count} from './format.js';
import {ruleLink} from './links.js';
import {value, words} from './text.js';

export function showExplanation(box, report, asked) {
	fill(
		box,
		report.problem && el('p', {class: 'bad-line'}, value(report.problem, 600)),
		report.server?.error && el('p', {class: 'bad-line'}, value(report.server.error, 600)),
		report.difference && el('p', {class: 'bad-line'}, value(report.difference, 600)),
		report.descriptors.map((descriptor, index) => describe(descriptor, asked.descriptors[index].entries)),
	);
}

function describe(descriptor, entries) {
	const steps = el(
		'ol',
		{class: 'steps'},
		descriptor.entries.map((level, index) => step(level, entries[index])),
	);
	const {rule} = descriptor;
	const advice = [descriptor.problem, ...descriptor.shadowed, ...descriptor.hints].filter(Boolean);
	return card(
		'The way through the rules',
		el('span', {class: 'soft'}, whole(entries)),
		steps,
		rule ? ruleFacts(rule) : el('p', {class: 'bad-line'}, 'No rule applies.'),
		advice.length
			? el(
					'ul',
					{class: 'advice'},
					advice.map(line => el('li', {}, words(line, 600))),
				)
			: null,
	);
}

// The entries with their whole values, on demand.
function whole(entries) {
	const parts = entries.map(({key, value: text}, index) => [index ? ', ' : '', value(key), '=', value(text)]);
	return el('span', {class: 'descriptor'}, parts);
}

const RESULTS = {
	chosen: 'applies',
	later: 'would apply if nothing before it did',
	unmatched: 'does not match',
};

function step(level, entry) {
	const tried = level.tried.map(it =>
		el(
			'li',
			{class: it.result},
			value(it.element),
			' at ',
			code(it.place),
			' ',
			el(
				'span',
				{class: 'soft'},
				RESULTS[it.result] ?? it.result,
				it.by && it.result !== 'unmatched' ? ` (${it.by.replaceAll('_', ' ')})` : null,
			),
		),
	);
	return el(
		'li',
		{},
		whole([entry]),
		el(
			'ul',
			{},
			tried,
			level.unlisted ? el('li', {class: 'soft'}, `${count(level.unlisted)} more do not match`) : null,
		),
	);
}

function ruleFacts(rule) {
	const counters = rule.limits.map(limit =>
		el(
			'div',
			{},
			words(limit.limit),
			', counter ',
			code(limit.counter),
			limit.replaced && el('span', {class: 'tag'}, 'replaced by another rule'),
		),
	);
	return facts([
		['rule', el('a', {href: ruleLink(rule.key)}, value(rule.key))],
		['place', value(rule.place)],
		['limits', rule.unlimited ? 'none: every request passes' : counters],
		['mode', rule.shadowMode ? 'shadow_mode: counts and refuses nothing' : rule.quotaMode ? 'quota_mode' : 'enforced'],
		['to change it', ['Edit ', code(rule.place), '; ', code('tollgate check'), ' finds mistakes before you save.']],
	]);
}
