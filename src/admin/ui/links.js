// Addresses of pages, whose state is in the fragment.

function link(path, parameters) {
	const query = new URLSearchParams();
	for (const [name, text] of parameters) {
		if (text != null && text !== '') query.append(name, text);
	}
	return `#/${path}${query.size ? `?${query}` : ''}`;
}

export function ruleLink(name) {
	return link('rule', [['name', name]]);
}

export function rulesLink(find) {
	return link('rules', [['find', find]]);
}

export function refusedLink(filters) {
	return link('refused', Object.entries(filters));
}

// The descriptor in the notation of `tollgate hit`: `user=ann,path=/login`. Null if the
// notation cannot express it.
export function notation(entries) {
	for (const {key, value} of entries) {
		if (key === '' || key.includes('=') || `${key}${value}`.includes('\\')) return null;
	}
	return entries.map(({key, value}) => `${key}=${value}`.replaceAll(',', '\\,')).join(',');
}

// A page about a call: {domain, descriptors: [{entries}], hitsAddend}. `more` are further
// parameters.
export function callLink(path, call, more = {}) {
	const texts = call.descriptors.map(descriptor => (isPlain(descriptor) ? notation(descriptor.entries) : null));
	const parameters = texts.includes(null)
		? [['call', JSON.stringify(call)]]
		: [['domain', call.domain], ...texts.map(text => ['descriptor', text]), ['hits', call.hitsAddend]];
	return link(path, [...parameters, ...Object.entries(more)]);
}

function isPlain(descriptor) {
	return Object.keys(descriptor).every(name => name === 'entries');
}

// The page about an item with a domain and entries.
export function whyLink({domain, entries, cut}, more = {}) {
	return callLink('why', {domain, descriptors: [{entries}]}, {cut: cut ? 1 : null, ...more});
}
