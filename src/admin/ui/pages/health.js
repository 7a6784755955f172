// Whether this instance works, and which rules it enforces.

import {card, code, el, facts, fill, state} from '../dom.js';
import {age, bytes, count} from '../format.js';
import {table} from '../table.js';
import {value} from '../text.js';

export function health(main, {session, signal}) {
	const instance = el('div');
	const rules = el('div');
	const store = el('div');
	const live = el('div');
	const pools = table({
		caption: 'Connections to Redis',
		columns: [
			{title: 'pool', cell: pool => pool.name},
			{title: 'connections', kind: 'number', cell: pool => count(pool.connections)},
			{title: 'calls that wait', kind: 'number', cell: pool => count(pool.waiting)},
			{
				title: 'servers that do not respond',
				kind: 'number',
				cell: pool => count(pool.unresponsive),
			},
		],
		key: pool => pool.name,
		empty: () => '',
	});
	fill(
		main,
		el('h1', {}, 'Health'),
		el(
			'div',
			{class: 'halves'},
			card('Instance', null, instance),
			card('Rules in force', null, rules),
			card('Counter store', null, store, pools.element),
			card('Live data', null, live),
		),
	);
	session.onStatus(signal, status => {
		showInstance(instance, status);
		showRules(rules, status);
		showStore(store, status);
		pools.update(status.store.pools);
		fill(
			live,
			facts([
				['top by hits', `1 decision of ${status.live.sampled} is counted, with that weight`],
				['refusals kept', count(status.live.keptRefusals)],
				['not kept', `${count(status.live.refusalsNotKept)} since the start`],
				['rules with a history', `at most ${count(status.live.mostRules)}`],
			]),
		);
	});
}

function showInstance(box, status) {
	const problems = status.problems.map(problem => el('p', {class: 'bad-line'}, value(problem, 400)));
	fill(
		box,
		problems,
		facts([
			['state', status.ready ? state('good', 'ready to receive requests') : state('bad', 'not ready')],
			['version', status.version],
			['started', age(status.startedAt, status.now)],
			['shadow mode', status.shadowMode ? state('warn', 'SHADOW_MODE: no request is refused') : state('idle', 'off')],
			['you', [value(status.you.name, 64), ` may ${status.you.role}`]],
		]),
	);
}

function showRules(box, {rules, now}) {
	const rejected = rules.rejected && [
		el('p', {class: 'bad-line'}, 'Newer rules were rejected. These stay in force until the mistakes are corrected:'),
		el(
			'pre',
			{},
			rules.rejected.split('\n').map(line => el('div', {}, value(line, 400))),
		),
	];
	fill(
		box,
		facts([
			['loaded', rules.loadedAt ? age(rules.loadedAt, now) : state('bad', 'none are loaded')],
			['hash', rules.hash ? code(rules.hash) : null],
			['domains', count(rules.domains)],
			['rules', count(rules.rules)],
			['newer rules', rules.rejected ? state('bad', 'rejected') : state('good', 'none rejected')],
		]),
		rejected,
		el('p', {class: 'soft'}, 'Instances with the same hash enforce the same rules.'),
	);
}

function showStore(box, {store, policies}) {
	fill(
		box,
		!store.answers && el('p', {class: 'bad-line'}, value(store.problem ?? '', 400)),
		facts([
			['kind', store.kind],
			['state', store.answers ? state('good', 'answers') : state('bad', 'does not answer')],
			[
				'without it',
				policies.default ? `ON_ERROR=${policies.default}` : 'requests fail, unless their limit has an on_error',
			],
			...policies.decided.map(({policy, limits}) => [
				`policy ${policy}`,
				limits ? state('warn', `${count(limits)} limits since the start`) : state('idle', 'has decided none'),
			]),
			...memoryFacts(store.memory),
		]),
	);
}

function memoryFacts(memory) {
	if (!memory) return [];
	return [
		['counters in memory', `${count(memory.counters)}, ${bytes(memory.bytes)}`],
		['evicted', memory.evicted ? state('warn', `${count(memory.evicted)} before they expired`) : '0'],
	];
}
