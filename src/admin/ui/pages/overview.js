// Is anything refused now, by what, and was it meant?

import {call} from '../api.js';
import {card, code, el, empty, facts, fill, setText, state} from '../dom.js';
import {age, count, duration, percent, rate} from '../format.js';
import {historyCard} from '../history.js';
import {every} from '../live.js';
import {allRules, limitTexts, ruleColumn, useColumns} from '../rule_parts.js';
import {table} from '../table.js';
import {topCards} from '../top.js';
import {value} from '../text.js';

const STEPS_IN_A_MINUTE = 12;

export function overview(main, {session, signal}) {
	const headline = el('p', {class: 'headline'});
	const notes = el('div', {class: 'notes'});
	const tiles = makeTiles();
	const view = {headline, notes, tiles, average: null, rules: null, minute: null};
	const limits = table({
		caption: 'Rules by the hits that they refused in the last minute',
		columns: [ruleColumn(), {title: 'limits', cell: item => limitTexts(item)}, ...useColumns()],
		key: item => `${item.rule.name} ${item.rule.place}`,
		empty: () => empty('No rule has refused a hit in the last minute.'),
	});
	fill(
		main,
		el('h1', {class: 'hidden'}, 'Overview'),
		el('section', {class: 'card answer'}, headline, notes, tiles.element),
		el(
			'div',
			{class: 'wide-and-narrow'},
			historyCard('Hits over time', {}, {session, signal}),
			stateCard(session, signal),
		),
		card('Refused now, by limit', el('a', {href: '#/rules'}, 'all rules'), limits.element),
		topCards(signal),
	);
	session.onStatus(signal, status => {
		view.status = status;
		answer(view);
	});
	const isAfterStart = point => new Date(view.status.startedAt) <= new Date(point.at);
	every('history', 2, signal, async () => {
		const fine = await call('v1/history', {signal});
		const recent = fine.points.slice(-STEPS_IN_A_MINUTE - 1, -1).filter(isAfterStart);
		view.minute = sum(recent, recent.length * fine.stepSeconds);
		answer(view);
	});
	every('average', 30, signal, async () => {
		const coarse = await call('v1/history', {query: {step: '1m'}, signal});
		const points = coarse.points.slice(0, -1).filter(isAfterStart);
		const seconds = points.length * coarse.stepSeconds;
		view.average = points.length < 10 ? null : {...sum(points, seconds), span: duration(seconds)};
		answer(view);
	});
	every('rules', 5, signal, async () => {
		view.rules = await allRules({}, signal);
		const refusing = view.rules.filter(
			item => 0 < (item.hits.lastMinute?.refused ?? 0) || 0 < (item.hits.lastMinute?.wouldRefuse ?? 0),
		);
		const weight = ({hits: {lastMinute}}) => 1e6 * lastMinute.refused + lastMinute.wouldRefuse;
		limits.update(refusing.sort((a, b) => weight(b) - weight(a)).slice(0, 10));
		answer(view);
	});
}

// Hits a second.
function sum(points, seconds) {
	const total = {passed: 0, refused: 0, wouldRefuse: 0, byPolicy: 0};
	for (const {hits} of points) {
		for (const name of Object.keys(total)) total[name] += hits[name] / (seconds || 1);
	}
	return total;
}

function makeTiles() {
	const names = {
		passed: 'passed',
		refused: 'refused',
		wouldRefuse: 'would be refused',
		byPolicy: 'decided by a policy',
	};
	const tiles = {};
	const list = el('dl', {class: 'tiles'});
	for (const [name, title] of Object.entries(names)) {
		const number = el('span', {class: 'big'}, '–');
		const note = el('span', {class: 'soft'});
		tiles[name] = {number, note};
		list.append(
			el('div', {class: name}, el('dt', {}, title), el('dd', {}, number, el('span', {class: 'unit'}, ' hits/s'), note)),
		);
	}
	return {element: list, tiles};
}

// The answer in one sentence.
function answer({headline, notes, tiles, status, minute, average, rules}) {
	if (!status || !minute) return;
	const all = minute.passed + minute.refused;
	for (const [name, {number, note}] of Object.entries(tiles.tiles)) {
		setText(number, rate(minute[name]));
		setText(note, average ? `${rate(average[name])} on average of ${average.span}` : 'in the last minute');
	}
	const isRefusing = 0 < minute.refused;
	headline.className = `headline ${isRefusing ? 'refusing' : ''}`;
	if (!status.rules.loadedAt) setText(headline, 'No rules are loaded.');
	else if (isRefusing) setText(headline, refusing(minute, all, average));
	else if (0 < all) setText(headline, 'Nothing was refused in the last minute.');
	else setText(headline, 'No limited request has arrived in the last minute.');
	fill(notes, alarms(status, minute), all === 0 && next(status, rules));
}

function refusing(minute, all, average) {
	const share = `${percent(minute.refused, all)} of all hits in the last minute were refused`;
	if (!average || average.refused === 0) return `${share}.`;
	const ratio = minute.refused / average.refused;
	const times = ratio < 10 ? ratio.toFixed(1) : count(ratio);
	return `${share}, ${times} times the average of ${average.span}.`;
}

function alarms(status, minute) {
	const lines = [];
	if (status.shadowMode) lines.push('SHADOW_MODE is on: no request is refused.');
	if (!status.store.answers) lines.push(['The counter store does not answer: ', value(status.store.problem ?? '')]);
	if (0 < minute.byPolicy) lines.push('Policies of on_error decide in place of the counter store.');
	if (status.rules.rejected)
		lines.push(['Newer rules were rejected; ', el('a', {href: '#/health'}, 'the mistakes'), '.']);
	return lines.map(line => el('p', {class: 'bad-line'}, line));
}

// The next command where nothing happens.
function next(status, rules) {
	if (!status.rules.loadedAt) {
		return el('p', {}, 'Find the mistakes with ', code('tollgate check RULES'), '.');
	}
	const limited = rules?.find(item => item.limits.length);
	if (!limited) return null;
	const key = limited.rule.name.slice(limited.domain.length + 1).split(/[._]/)[0];
	return el(
		'p',
		{},
		'Send one with ',
		code(`tollgate hit --domain ${limited.domain} ${key}=test`),
		', or let your proxy ask this service.',
	);
}

function stateCard(session, signal) {
	const box = el('div');
	session.onStatus(signal, status => {
		const {store, rules, policies} = status;
		const decided = policies.decided
			.filter(({limits}) => limits)
			.map(({policy, limits}) => `${policy} ${count(limits)}`);
		fill(
			box,
			facts([
				['instance', status.ready ? state('good', 'ready') : state('bad', 'not ready')],
				[
					'counter store',
					store.answers ? state('good', `${store.kind} answers`) : state('bad', `${store.kind} does not answer`),
				],
				[
					'policies',
					decided.length
						? state('warn', `${decided.join(', ')} limits since the start`)
						: state('idle', 'none has decided'),
				],
				[
					'rules',
					rules.loadedAt
						? `${count(rules.rules)} in ${count(rules.domains)} domain${rules.domains === 1 ? '' : 's'}`
						: state('bad', 'none are loaded'),
				],
				['rules hash', rules.hash ? code(rules.hash) : null],
				['in force', rules.loadedAt ? ['loaded ', age(rules.loadedAt, status.now)] : null],
				[
					'newer rules',
					rules.rejected ? el('a', {href: '#/health', class: 'state bad'}, 'rejected') : state('good', 'none rejected'),
				],
				['version', status.version],
				['started', age(status.startedAt, status.now)],
			]),
		);
	});
	return card('State', el('a', {href: '#/health'}, 'health'), box);
}
