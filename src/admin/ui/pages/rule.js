// One rule: its use, its clients, and what another limit would do.

import {call} from '../api.js';
import {card, choice, el, empty, facts, fill, setText} from '../dom.js';
import {count, duration, percent} from '../format.js';
import {refusedLink, whyLink} from '../links.js';
import {historyCard} from '../history.js';
import {every} from '../live.js';
import {allRules, limitTexts} from '../rule_parts.js';
import {table} from '../table.js';
import {topCards} from '../top.js';
import {descriptor, value} from '../text.js';

export function rule(main, {session, parameters, signal}) {
	const name = parameters.get('name') ?? '';
	const about = el('div');
	const trial = el('div');
	fill(
		main,
		el('p', {class: 'soft'}, el('a', {href: '#/rules'}, 'Rules'), ' ›'),
		el('h1', {}, value(name)),
		el(
			'div',
			{class: 'wide-and-narrow'},
			historyCard('Hits over time', {rule: name}, {session, signal}),
			card('About', null, about),
		),
		topCards(signal, {rule: name}),
		trial,
	);
	let known = '';
	every('rule', 3, signal, async () => {
		const domain = name.split('.')[0];
		let items = await allRules({domain}, signal);
		if (!items.some(item => item.rule.name === name)) items = await allRules({}, signal);
		const found = items.find(item => item.rule.name === name);
		if (!found) {
			fill(about, empty('No rule in force has this name.', 'It may have been renamed: see the page Rules.'));
			return;
		}
		showFacts(about, found);
		const limits = JSON.stringify(found.limits);
		if (limits !== known) {
			known = limits;
			showTrial(trial, found, signal);
		}
	});
}

function showFacts(about, item) {
	const {total, lastMinute} = item.hits;
	const hits = of =>
		`${count(of.passed)} passed, ${count(of.refused)} refused` +
		(of.wouldRefuse ? `, ${count(of.wouldRefuse)} would be refused` : '');
	fill(
		about,
		facts([
			['limits', limitTexts(item)],
			['place', value(item.rule.place)],
			['domain', value(item.domain)],
			[
				'mode',
				item.shadowMode
					? 'shadow_mode: counts and refuses nothing'
					: item.quotaMode
						? 'quota_mode: refuses only together with all other quotas of a request'
						: 'enforced',
			],
			['last minute', lastMinute ? hits(lastMinute) : 'not among the 1,000 busiest rules'],
			['since loaded', hits(total)],
			['refusals', el('a', {href: refusedLink({rule: item.rule.name})}, 'the latest ones')],
		]),
	);
}

function showTrial(box, item, signal) {
	const limits = item.limits.filter(limit => limit.windowSeconds !== null);
	if (!limits.length) return fill(box);
	const content = el('div');
	const pick =
		1 < limits.length &&
		choice(
			'limit',
			limits.map((limit, index) => [String(index), limit.text]),
			'0',
			picked => show(limits[picked]),
		);
	let end = new AbortController();
	function show(limit) {
		end.abort();
		end = new AbortController();
		showSlider(content, item.rule.name, limit, AbortSignal.any([signal, end.signal]));
	}
	show(limits[0]);
	fill(box, card('What would another limit refuse?', pick || null, content));
}

// The shortest window of /v1/top that covers the window of a limit.
function topWindow(seconds) {
	if (seconds <= 60) return '1m';
	return seconds <= 600 ? '10m' : '1h';
}

function showSlider(box, name, limit, signal) {
	const unit = duration(limit.windowSeconds);
	let clients = [];
	let seconds = 0;
	let largest = 2 * limit.requests || 10;
	const number = el('input', {type: 'number', id: 'trial', min: 0, step: 1, value: limit.requests});
	const slider = el('input', {type: 'range', min: 0, max: 1000, 'aria-label': `Hits in ${unit}`});
	const sentence = el('p', {class: 'verdict', 'aria-live': 'polite'});
	const basis = el('p', {class: 'soft'});
	const grid = table({
		caption: 'The busiest clients of this rule and what the limit would refuse',
		columns: [
			{
				title: 'descriptor',
				kind: 'fixed',
				cell: client => el('a', {href: whyLink(client.item)}, descriptor(client.item.entries, client.item.cut)),
			},
			{
				title: `hits in ${unit}`,
				kind: 'number',
				bar: client => client.rate / largest,
				cell: client => count(client.rate),
			},
			{
				title: 'would be refused',
				kind: 'number refused',
				bar: client => client.over / largest,
				cell: client => percent(client.over, client.rate),
			},
		],
		key: client => JSON.stringify(client.item.entries),
		empty: () =>
			empty(
				'No hits of this rule are among the most frequent ones.',
				'Send some, or choose the rule of a busier limit.',
			),
	});

	// A square scale: small limits are as easy to choose as large ones.
	const toValue = position => Math.round(largest * (position / 1000) ** 2);
	const toPosition = chosen => 1000 * Math.sqrt(Math.min(1, chosen / largest));

	function show() {
		const chosen = Math.max(0, Math.floor(Number(number.value) || 0));
		let all = 0;
		let over = 0;
		let refused = 0;
		for (const client of clients) {
			client.over = Math.max(0, client.rate - chosen);
			all += client.rate;
			over += client.over;
			refused += 0 < client.over;
		}
		setText(
			sentence,
			clients.length === 0
				? ''
				: `${count(chosen)} in ${unit} would refuse ${count(refused)} of these \
${count(clients.length)} clients, and ${percent(over, all)} of their hits.`,
		);
		setText(
			basis,
			clients.length === 0
				? ''
				: `From the average rates in the last ${duration(seconds)}\
${seconds < limit.windowSeconds ? `, extrapolated to ${unit}` : ''}, where 1 decision of 16 is counted. Each descriptor \
is taken as a client with a counter of its own. Bursts are refused more. With shadow_mode: true on the rule, tollgate \
counts what it would refuse.`,
		);
		grid.update(clients.slice(0, 15));
	}

	slider.addEventListener('input', () => {
		number.value = toValue(slider.value);
		show();
	});
	number.addEventListener('input', () => {
		slider.value = toPosition(number.value);
		show();
	});
	fill(
		box,
		el('div', {class: 'trial'}, el('label', {for: 'trial'}, 'A limit of'), number, `in ${unit}`, slider),
		sentence,
		grid.element,
		basis,
	);
	every('trial', 5, signal, async () => {
		const top = await call('v1/top', {
			query: {by: 'hits', rule: name, window: topWindow(limit.windowSeconds)},
			signal,
		});
		seconds = Math.max(1, (new Date(top.to) - new Date(top.from)) / 1000);
		clients = top.items.map(item => ({
			item,
			rate: (item.hits / seconds) * limit.windowSeconds,
			over: 0,
		}));
		largest = Math.max(2 * limit.requests, 10, ...clients.map(client => 1.1 * client.rate));
		slider.value = toPosition(number.value);
		show();
	});
}
