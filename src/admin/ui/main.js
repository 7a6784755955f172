// The dashboard: logs in, and shows the page that the fragment of the address names.

import {call, hasToken, setToken, whenLoggedOut} from './api.js';
import {el, fill, setText} from './dom.js';
import {clearFailures, every, setPaused, whenFailing} from './live.js';
import {login} from './pages/login.js';
import {overview} from './pages/overview.js';
import {rule} from './pages/rule.js';
import {rules} from './pages/rules.js';
import {refused} from './pages/refused.js';
import {why} from './pages/why.js';
import {counters} from './pages/counters.js';
import {health} from './pages/health.js';
import {value, words} from './text.js';

const PAGES = {
	'': {title: 'Overview', show: overview},
	rules: {title: 'Rules', show: rules},
	rule: {title: 'Rule', show: rule, within: 'rules'},
	refused: {title: 'Refused', show: refused},
	why: {title: 'Why', show: why},
	counters: {title: 'Counters', show: counters, isShown: session => session.canChangeCounters},
	health: {title: 'Health', show: health},
};

const main = document.getElementById('main');
const bar = document.getElementById('bar');
const errors = document.getElementById('errors');

// What is known of this login: the last status, and how to learn of the next ones.
let session = null;
let page = new AbortController();
// Grows with each login and logout.
let logins = 0;
let beginning = null;

// A token in the fragment never reached the server. It leaves the address at once.
function takeToken() {
	const match = /^#token=([^&]+)/.exec(location.hash);
	if (!match) return;
	history.replaceState(null, '', '#/');
	endSession();
	setToken(decodeToken(match[1]));
}

function decodeToken(text) {
	try {
		return decodeURIComponent(text);
	} catch {
		return text;
	}
}

function endSession() {
	logins += 1;
	session?.end.abort();
	session = null;
	beginning = null;
	setToken(null);
	clearFailures();
}

async function begin() {
	const login = logins;
	const end = new AbortController();
	const listeners = new Set();
	const status = await call('v1/status', {signal: end.signal});
	const {paths} = await call('openapi.json', {signal: end.signal});
	if (login !== logins) return;
	session = {
		end,
		status,
		canChangeCounters: status.you.role === 'write' && '/v1/counters/reset' in paths,
		// Calls the listener with the status, now and whenever it is read.
		onStatus(signal, listener) {
			listeners.add(listener);
			signal.addEventListener('abort', () => listeners.delete(listener), {once: true});
			listener(session.status);
		},
	};
	every('status', 2, end.signal, async () => {
		session.status = await call('v1/status', {signal: end.signal});
		for (const listener of listeners) listener(session.status);
	});
}

// The path and the parameters in the fragment: `#/why?domain=shop`.
function place() {
	const [path, query = ''] = location.hash.replace(/^#\/?/, '').split(/\?(.*)/s);
	return {path, parameters: new URLSearchParams(query)};
}

async function route() {
	takeToken();
	page.abort();
	page = new AbortController();
	const {signal} = page;
	clearFailures();
	if (!hasToken()) return showLogin();
	if (!session) {
		try {
			beginning ??= begin().finally(() => {
				beginning = null;
			});
			await beginning;
		} catch (failure) {
			if (signal.aborted || !hasToken()) return;
			if (failure.status !== 0) return showLogin(failure);
			showFailures([failure]);
			setTimeout(() => signal.aborted || route(), 2000);
			return;
		}
		if (signal.aborted || !session) return;
	}
	const {path, parameters} = place();
	const found = Object.hasOwn(PAGES, path) ? PAGES[path] : PAGES[''];
	const known = found.isShown && !found.isShown(session) ? PAGES[''] : found;
	showBar(known.within ?? (known === PAGES[''] ? '' : path), signal);
	document.title = `${known.title} · tollgate`;
	fill(main);
	known.show(main, {session, parameters, signal});
	main.focus({preventScroll: true});
	scrollTo(0, 0);
}

function showLogin(failure) {
	endSession();
	fill(bar, el('span', {class: 'brand'}, 'tollgate'));
	document.title = 'Log in · tollgate';
	login(main, failure, token => {
		setToken(token);
		route();
	});
}

function showBar(current, signal) {
	const links = [];
	for (const [path, {title, within, isShown}] of Object.entries(PAGES)) {
		if (within !== undefined || (isShown && !isShown(session))) continue;
		const isHere = path === current;
		links.push(el('a', {href: `#/${path}`, 'aria-current': isHere && 'page'}, title));
	}
	const ready = el('a', {href: '#/health', class: 'state'});
	const who = el('span', {class: 'who'});
	session.onStatus(signal, status => {
		ready.className = `state ${status.ready ? 'good' : 'bad'}`;
		setText(ready, status.ready ? 'ready' : 'not ready');
		fill(who, value(status.you.name, 24), ` · ${status.you.role}`);
	});
	const pause = el(
		'button',
		{
			type: 'button',
			'aria-pressed': 'false',
			class: 'quiet',
			click() {
				const isPaused = pause.getAttribute('aria-pressed') !== 'true';
				pause.setAttribute('aria-pressed', String(isPaused));
				setText(pause, isPaused ? 'Paused: go on' : 'Pause');
				setPaused(isPaused);
			},
		},
		'Pause',
	);
	setPaused(false);
	const logout = el(
		'button',
		{
			type: 'button',
			class: 'quiet',
			click() {
				history.replaceState(null, '', '#/');
				endSession();
				route();
			},
		},
		'Log out',
	);
	fill(
		bar,
		el('a', {class: 'brand', href: '#/'}, 'tollgate'),
		el('nav', {'aria-label': 'Pages'}, links),
		ready,
		who,
		pause,
		logout,
	);
}

function showFailures(failures) {
	const lines = new Map(failures.map(failure => [failure.detail, failure.advice]));
	fill(
		errors,
		[...lines].map(([detail, advice]) => el('p', {}, words(detail, 400), '. ', advice)),
	);
}

whenFailing(showFailures);
whenLoggedOut(failure => {
	page.abort();
	showLogin(failure);
});
document.getElementById('skip').addEventListener('click', event => {
	event.preventDefault();
	main.focus();
});
addEventListener('hashchange', route);
route();
