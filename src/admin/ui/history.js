// The hits of a rule, or of all, over time.

import {call} from './api.js';
import {card, choice, el, setText} from './dom.js';
import {every} from './live.js';
import {plot, rates} from './plot.js';

// A plot of the hits of a rule, or of all.
export function historyCard(title, query, {session, signal}) {
	let step = '5s';
	const chart = plot('Hits a second over time; the numbers are in the legend', signal);
	const noHistory = el('p', {class: 'soft'});
	const refresh = every('plot', 2, signal, async () => {
		const asked = step;
		const history = await call('v1/history', {query: {...query, step: asked}, signal});
		if (asked !== step) return;
		chart.element.hidden = history.points === null;
		setText(noHistory, history.points ? '' : 'Only the 1,000 busiest rules have a history.');
		if (history.points) chart.update(rates(history, session.status.startedAt));
	});
	const pick = choice(
		'last',
		[
			['5s', '10 minutes'],
			['1m', '6 hours'],
		],
		step,
		picked => {
			step = picked;
			refresh();
		},
	);
	return card(title, pick, chart.element, noHistory);
}
