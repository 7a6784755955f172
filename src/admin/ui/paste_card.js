// A form that takes a pasted refusal.

import {code, el, fill} from './dom.js';
import {callLink, notation, ruleLink, rulesLink} from './links.js';
import {MOST_CHARACTERS, read} from './paste.js';
import {printable, printableJson, value} from './text.js';

// What a pasted refusal said, by the address of its page.
const saidByLink = new Map();

// What the refusal said that led to this address.
export function saidBy(link) {
	return saidByLink.get(link);
}

// A box that takes a refusal, and leads to `page` about it.
export function pasteCard(page, action, asked) {
	const box = el('textarea', {
		id: 'paste',
		rows: asked ? 3 : 7,
		spellcheck: 'false',
		maxlength: MOST_CHARACTERS,
		placeholder: 'domain: shop\nuser=ann',
		'aria-describedby': 'paste-help',
	});
	if (asked) box.value = asText(asked);
	const problem = el('p', {class: 'bad-line', role: 'alert', hidden: true});
	const form = el(
		'form',
		{
			submit(event) {
				event.preventDefault();
				const found = read(box.value);
				problem.hidden = found.problem === undefined;
				if (found.problem) return fill(problem, value(found.problem, 300), ' ', alternative(found));
				const link = callLink(page, found.call);
				if (found.said) saidByLink.set(link, found.said);
				if (location.hash === link) dispatchEvent(new HashChangeEvent('hashchange'));
				else location.hash = link;
			},
		},
		el(
			'label',
			{for: 'paste'},
			'A refusal’s metadata, a line of an access log or of the decision log, or a domain and \
descriptors',
		),
		box,
		problem,
		el(
			'p',
			{id: 'paste-help', class: 'soft'},
			'As text: the domain in the first line, and a descriptor in each line below, \
such as ',
			code('user=ann,path=/login'),
			'.',
		),
		el('button', {type: 'submit'}, action),
	);
	box.addEventListener('keydown', event => {
		if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
	});
	return el('section', {class: 'card'}, form);
}

function alternative(found) {
	if (found.rule) return el('a', {href: ruleLink(found.rule)}, 'The rule');
	if (found.limit) return el('a', {href: rulesLink(found.limit)}, 'Rules with it');
	return null;
}

// The call as it can be pasted again.
function asText(asked) {
	const lines = asked.descriptors.map(({entries}) => notation(entries));
	const isPlain =
		asked.hitsAddend === undefined &&
		asked.descriptors.every(it => Object.keys(it).length === 1) &&
		!lines.includes(null) &&
		printable(lines.join('') + asked.domain) === lines.join('') + asked.domain;
	return isPlain ? [`domain: ${asked.domain}`, ...lines].join('\n') : printableJson(asked);
}
