// Plots of hits over time.

import {el, setText} from './dom.js';
import {clock, rate, tick} from './format.js';

const SERIES = [
	{field: 'passed', title: 'passed', colour: '--passed'},
	{field: 'refused', title: 'refused', colour: '--refused', filled: true},
	{field: 'wouldRefuse', title: 'would refuse', colour: '--would', dash: [5, 3]},
	{field: 'byPolicy', title: 'by policy', colour: '--policy', dash: [2, 3]},
];
const HEIGHT = 210;

function colour(name) {
	return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// The steps of an answer of /v1/history as rates, without the step in progress. Steps before
// `since` have no value.
export function rates(history, since) {
	const step = history.stepSeconds;
	const start = new Date(since ?? 0) / 1000 - step;
	const times = [];
	const values = SERIES.map(() => []);
	for (const point of history.points.slice(0, -1)) {
		const time = new Date(point.at) / 1000;
		times.push(time);
		for (const [index, series] of SERIES.entries()) {
			values[index].push(time < start ? null : point.hits[series.field] / step);
		}
	}
	return [times, ...values];
}

// A plot of the four kinds of hits: {element, update(data)}. Its legend shows the values under
// the pointer, or the latest ones, and hides lines.
export function plot(label, signal) {
	const box = el('div', {class: 'plot-box', role: 'img', 'aria-label': label});
	const time = el('span', {class: 'plot-time'});
	const values = SERIES.map(() => el('output', {}));
	const shown = SERIES.map(() => true);
	let chart = null;
	let data = null;

	const buttons = SERIES.map((series, index) =>
		el(
			'button',
			{
				type: 'button',
				class: `legend ${series.field}`,
				'aria-pressed': 'true',
				click: () => toggle(index),
			},
			el('span', {class: 'line'}),
			series.title,
			' ',
			values[index],
		),
	);

	function toggle(index) {
		shown[index] = !shown[index];
		buttons[index].setAttribute('aria-pressed', String(shown[index]));
		chart?.setSeries(index + 1, {show: shown[index]});
	}

	function showValues(index) {
		if (!data) return;
		const at = index ?? data[0].length - 1;
		setText(time, at < 0 ? '' : `hits/s at ${clock(new Date(1000 * data[0][at]))}`);
		for (const [series, output] of values.entries()) {
			const number = at < 0 ? null : data[series + 1][at];
			setText(output, number == null ? '–' : rate(number));
		}
	}

	function make() {
		chart?.destroy();
		chart = new uPlot(options(box.clientWidth || 600, shown, showValues), data, box);
	}

	function update(newData) {
		data = newData;
		if (chart) chart.setData(data);
		else make();
		showValues(chart.cursor.idx ?? null);
	}

	const resized = new ResizeObserver(() => {
		if (chart) chart.setSize({width: box.clientWidth, height: HEIGHT});
	});
	resized.observe(box);
	matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => chart && make(), {
		signal,
	});
	signal.addEventListener(
		'abort',
		() => {
			resized.disconnect();
			chart?.destroy();
		},
		{once: true},
	);
	return {element: el('figure', {}, el('figcaption', {}, time, buttons), box), update};
}

function options(width, shown, showValues) {
	const axis = {
		stroke: colour('--soft'),
		grid: {stroke: colour('--line'), width: 1},
		ticks: {show: false},
		font: '11px system-ui, sans-serif',
	};
	const hours = (chart, splits, index, space, step) => splits.map(split => clock(new Date(1000 * split), step < 60));
	return {
		width,
		height: HEIGHT,
		legend: {show: false},
		cursor: {y: false, drag: {setScale: false, x: false, y: false}, points: {size: 6}},
		scales: {x: {time: true}, y: {range: (chart, low, high) => [0, 0 < high ? 1.1 * high : 1]}},
		axes: [
			{...axis, values: hours, space: 80, size: 28},
			{...axis, values: (chart, splits) => splits.map(tick), size: 52, space: 32},
		],
		series: [
			{},
			...SERIES.map((series, index) => ({
				show: shown[index],
				stroke: colour(series.colour),
				fill: series.filled ? `${colour(series.colour)}2e` : undefined,
				dash: series.dash,
				width: 1.5,
				points: {show: false},
			})),
		],
		hooks: {setCursor: [chart => showValues(chart.cursor.idx ?? null)]},
	};
}
