// Why is a request refused? What applies to it, and what is left of it now.

import {call} from '../api.js';
import {card, code, el, empty, fill} from '../dom.js';
import {showExplanation} from '../explanation.js';
import {count, duration, timeOfDay} from '../format.js';
import {callLink, ruleLink} from '../links.js';
import {every} from '../live.js';
import {readParameters} from '../paste.js';
import {pasteCard, saidBy} from '../paste_card.js';
import {table} from '../table.js';
import {descriptor as descriptorOf, value, words} from '../text.js';

export function why(main, {session, parameters, signal}) {
	const asked = readParameters(parameters);
	const result = el('div');
	fill(main, el('h1', {}, 'Why'), pasteCard('why', 'Explain', asked), result);
	if (!asked) {
		fill(result, empty('Paste a refusal above, or choose one on the page Refused.', 'Nothing is counted by this.'));
		return;
	}
	const verdict = el('p', {class: 'headline'});
	const then = el('div');
	const path = el('div');
	const standing = standingTable();
	fill(
		result,
		el(
			'section',
			{class: 'card answer'},
			verdict,
			then,
			parameters.has('cut') &&
				el(
					'p',
					{class: 'bad-line'},
					'The end of this descriptor was not kept, because it has \
more than 128 bytes: its counter is another one. Paste the metadata of the refusal to see that.',
				),
		),
		card(
			'Now',
			session.canChangeCounters && el('a', {href: callLink('counters', asked)}, 'its counters: look, reset, set'),
			standing.element,
		),
		path,
	);
	showThen(then, parameters, asked, signal);
	every('simulate', 2, signal, async () => {
		const simulation = await call('v1/simulate', {body: asked, signal});
		standing.update(rows(simulation, asked));
		verdict.className = `headline ${simulation.refused ? 'refusing' : ''}`;
		fill(verdict, ...sentence(simulation, session.status));
	});
	let shown = '';
	every('explain', 10, signal, async () => {
		const report = await call('v1/explain', {body: asked, signal});
		const text = JSON.stringify([report.problem, report.descriptors, report.server?.error]);
		if (text !== shown) showExplanation(path, report, asked);
		shown = text;
	});
}

// What was answered when the request was refused.
async function showThen(box, parameters, asked, signal) {
	const said = saidBy(callLink('why', asked));
	if (said) {
		fill(
			box,
			el(
				'p',
				{},
				'The refusal said: ',
				el('a', {href: ruleLink(said.key)}, value(said.key)),
				' at ',
				code(said.place || '?'),
				', ',
				words(said.limit),
				said.name ? [' (', words(said.name), ')'] : null,
				`, ${count(said.remaining)} left`,
				said.neverPasses
					? ', never passes'
					: said.resetSeconds === null
						? null
						: `, passes after ${duration(said.resetSeconds)}`,
				said.degraded ? ', decided by a policy because the counter store did not answer' : null,
				'.',
			),
		);
		return;
	}
	const number = parameters.get('refusal');
	if (!/^\d{1,15}$/.test(number ?? '')) return;
	let found;
	try {
		const answer = await call('v1/refusals', {query: {after: number, limit: 1}, signal});
		found = answer.items.find(item => String(item.number) === number);
	} catch {
		return;
	}
	if (!found || JSON.stringify(found.entries) !== JSON.stringify(asked.descriptors[0].entries)) return;
	fill(
		box,
		el(
			'p',
			{},
			'Refused at ',
			timeOfDay(found.at),
			' by ',
			found.rule ? el('a', {href: ruleLink(found.rule.name)}, value(found.rule.name)) : 'the limit of the request',
			found.rule && [' at ', code(found.rule.place)],
			': ',
			words(found.limit.text),
			found.limit.name && [' (', words(found.limit.name), ')'],
			`; it asked for ${count(found.hits)} hit${found.hits === 1 ? '' : 's'} with ${count(found.remaining)} left`,
			found.waitSeconds === null ? ', and never passes' : `, and could pass after ${duration(found.waitSeconds)}`,
			found.policy ? `; the policy ${found.policy} decided, because the counter store did not answer` : null,
			'.',
		),
	);
}

// A row for each limit.
function rows(simulation, asked) {
	const list = [];
	for (const [index, descriptor] of simulation.descriptors.entries()) {
		const {entries} = asked.descriptors[index];
		if (descriptor.limits.length === 0) list.push({id: `${index}`, entries, descriptor, limit: null});
		for (const [place, limit] of descriptor.limits.entries()) {
			list.push({id: `${index} ${place}`, entries, descriptor, limit});
		}
	}
	return list;
}

function standingTable() {
	const number = (title, show, extra = {}) => ({
		title,
		kind: 'number',
		cell: row => (row.limit ? show(row.limit) : ''),
		...extra,
	});
	return table({
		caption: 'The limits of this request, now',
		columns: [
			{title: 'descriptor', kind: 'fixed', cell: row => descriptorOf(row.entries)},
			{
				title: 'rule',
				cell: row =>
					row.descriptor.rule
						? el('a', {href: ruleLink(row.descriptor.rule.name)}, value(row.descriptor.rule.name))
						: 'none',
			},
			{
				title: 'limit',
				cell: row => (row.limit ? limitText(row.limit.limit) : 'no limit applies'),
			},
			number('used', limit => count(limit.used), {
				bar: row => (row.limit ? row.limit.used / Math.max(1, row.limit.limit.requests) : 0),
			}),
			number('left', limit => count(limit.remaining)),
			number('unused in', limit => duration(limit.resetSeconds), {
				hint: 'The time until the limit is as if it had never been used',
			}),
			number('banned for', limit => (limit.bannedSeconds ? duration(limit.bannedSeconds) : '–')),
			{
				title: 'result',
				cell: row =>
					row.limit?.over ? el('span', {class: 'state bad'}, 'over') : el('span', {class: 'state good'}, 'passes'),
			},
		],
		key: row => row.id,
		rowClass: row => (row.limit?.over ? 'refused' : ''),
	});
}

function limitText(limit) {
	return el('span', {}, words(limit.text), limit.name && [' (', words(limit.name), ')']);
}

function sentence(simulation, status) {
	if (simulation.policies.length) {
		return ['The counter store does not answer: the policy ', simulation.policies.join(' and '), ' decides.'];
	}
	const first = simulation.descriptors.flatMap(it => it.limits).find(limit => limit.over);
	const limit = first && [
		words(first.limit.text),
		first.limit.name ? [' (', words(first.limit.name), ')'] : '',
		` has ${count(first.remaining)} left`,
	];
	if (simulation.refused) {
		return [
			'It would be refused now: ',
			...limit,
			first.bannedSeconds ? `, and a penalty refuses everything for ${duration(first.bannedSeconds)}.` : '.',
		];
	}
	if (simulation.wouldRefuse) {
		return [
			'It would pass now, but only because of ',
			status.shadowMode ? 'SHADOW_MODE' : 'shadow_mode on the rule',
			': ',
			...limit,
			'.',
		];
	}
	if (simulation.descriptors.every(descriptor => descriptor.limits.length === 0)) {
		return ['No limit applies, so it would pass now.'];
	}
	return ['It would pass now.'];
}
