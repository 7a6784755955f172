// Asks for a token.

import {code, el, fill} from '../dom.js';
import {words} from '../text.js';

export function login(main, failure, onToken) {
	const input = el('input', {
		id: 'token',
		type: 'password',
		autocomplete: 'current-password',
		required: true,
		spellcheck: 'false',
		pattern: '\\s*[!-~]+\\s*',
		title: 'A token has visible ASCII characters alone',
	});
	// Password managers want a name.
	const name = el('input', {
		autocomplete: 'username',
		class: 'hidden',
		tabindex: '-1',
		'aria-label': 'Name',
		value: 'tollgate',
	});
	const form = el(
		'form',
		{
			submit(event) {
				event.preventDefault();
				const token = input.value.trim();
				if (token) onToken(token);
			},
		},
		name,
		el('label', {for: 'token'}, 'Token'),
		input,
		el('button', {type: 'submit'}, 'Log in'),
	);
	const said =
		failure && el('p', {class: 'bad-line', role: 'alert'}, words(failure.detail, 400), '. ', advice(failure));
	fill(
		main,
		el(
			'section',
			{class: 'card login'},
			el('h1', {}, 'Log in'),
			said,
			form,
			el(
				'p',
				{},
				'On a terminal, tollgate prints an address with a token when it starts. Otherwise \
the token is in the file that ',
				code('ADMIN_TOKEN_FILE'),
				' names, or is one of ',
				code('ADMIN_TOKENS_FILE'),
				'.',
			),
			el(
				'p',
				{class: 'soft'},
				'The page holds it in memory: a reload forgets it, and a password \
manager can fill it in again.',
			),
		),
	);
	input.focus();
}

function advice(failure) {
	if (failure.status !== 401) return failure.advice;
	return 'A token that is made at the start changes with each start.';
}
