// Recognises the call in what an operator pastes: the metadata of an answer, a line of an
// access log or of the decision log, a body of /json, or descriptors as text.

// The most characters that are read.
export const MOST_CHARACTERS = 1_000_000;

// The most places at which a JSON value may begin, the depth in it, and its parts.
const MOST_VALUES = 32;
const MOST_DEPTH = 16;
const MOST_PARTS = 100_000;

// The result has `call`, the body of a request to /json; and `said`, the rule that a refusal
// named, or null. Without a call it may have `rule` or `limit`, a name to look for.
export function read(text) {
	if (MOST_CHARACTERS < text.length) return {problem: 'This is longer than a million characters.'};
	const values = jsonValues(text);
	const budget = {parts: MOST_PARTS};
	for (const value of values) {
		const found = findCall(value, MOST_DEPTH, budget);
		if (found) return found;
	}
	const said = firstOf(values, value => saidBy(value));
	const domain = /\bdomain[=:]\s*"?([^\s",}]+)/.exec(text)?.[1];
	const descriptors = firstOf(values, value => (Array.isArray(value) ? readDescriptors(value) : null));
	if (domain && descriptors?.length) return {call: {domain, descriptors}, said};
	if (said) {
		return {
			rule: said.key,
			problem:
				'This names the rule, but not the domain and the descriptors. In an access log \
of Envoy, print the whole metadata: %DYNAMIC_METADATA(envoy.filters.http.ratelimit)%',
		};
	}
	const limit = firstOf(values, value => value?.['violated-policies']?.[0]);
	if (typeof limit === 'string') {
		return {
			limit,
			problem:
				'This answer names only the limit, not the descriptors. The decision log has these, and the \
page Refused has the latest refusals.',
		};
	}
	return values.length ? {problem: 'No domain with descriptors is in this JSON.'} : readNotation(text);
}

function firstOf(values, find) {
	for (const value of values) {
		const found = find(value);
		if (found) return found;
	}
	return null;
}

// The JSON objects and lists in a text, the outermost ones.
function jsonValues(text) {
	const values = [];
	let start = text.search(/[{[]/);
	for (let tries = 0; start !== -1 && tries < MOST_VALUES; tries += 1) {
		const end = endOfJson(text, start);
		let next = start + 1;
		if (end !== -1) {
			try {
				values.push(JSON.parse(text.slice(start, end)));
				next = end;
			} catch {
				// A bracket of another kind.
			}
		}
		const offset = text.slice(next).search(/[{[]/);
		start = offset === -1 ? -1 : next + offset;
	}
	return values;
}

// The end of the brackets that open at `start`; -1 if they never close.
function endOfJson(text, start) {
	let depth = 0;
	let inString = false;
	for (let index = start; index < text.length; index += 1) {
		const character = text[index];
		if (inString) {
			if (character === '\\') index += 1;
			else if (character === '"') inString = false;
		} else if (character === '"') inString = true;
		else if (character === '{' || character === '[') depth += 1;
		else if (character === '}' || character === ']') {
			depth -= 1;
			if (depth === 0) return index + 1;
		}
	}
	return -1;
}

// The first object with a domain and descriptors, also in a text that is JSON itself.
function findCall(value, depth, budget) {
	budget.parts -= 1;
	if (depth === 0 || budget.parts < 0) return null;
	if (typeof value === 'string') {
		if (!/^\s*[{[]/.test(value)) return null;
		return firstOf(jsonValues(value), inner => findCall(inner, depth - 1, budget));
	}
	if (value === null || typeof value !== 'object') return null;
	if (!Array.isArray(value) && typeof value.domain === 'string') {
		const descriptors = readDescriptors(value.descriptors ?? [value]);
		if (descriptors?.length) return {call: readCall(value, descriptors), said: saidBy(value)};
	}
	return firstOf(Object.values(value), inner => findCall(inner, depth - 1, budget));
}

function readCall(value, descriptors) {
	const call = {domain: value.domain, descriptors};
	// A line of the decision log has the hits of its one descriptor.
	const hits = Number(value.hitsAddend ?? value.hits_addend ?? (value.descriptors ? 0 : value.hits));
	if (1 < hits) call.hitsAddend = hits;
	return call;
}

function readDescriptors(list) {
	if (!Array.isArray(list)) return null;
	const descriptors = [];
	for (const item of list) {
		const entries = readEntries(item?.entries);
		if (!entries) return null;
		const descriptor = {entries};
		const limit = readLimit(item.limit);
		if (limit) descriptor.limit = limit;
		if (item.hitsAddend !== undefined) descriptor.hitsAddend = item.hitsAddend;
		descriptors.push(descriptor);
	}
	return descriptors;
}

function readEntries(list) {
	if (!Array.isArray(list) || list.length === 0) return null;
	const entries = [];
	for (const item of list) {
		if (typeof item === 'string' && 0 < item.indexOf('=')) {
			const equals = item.indexOf('=');
			entries.push({key: item.slice(0, equals), value: item.slice(equals + 1)});
		} else if (typeof item?.key === 'string') {
			entries.push({key: item.key, value: String(item.value ?? '')});
		} else return null;
	}
	return entries;
}

// A limit that the request brought along: an object, or in the text format of protobuf.
function readLimit(limit) {
	if (typeof limit !== 'string') {
		return typeof limit?.unit === 'string' && limit.requestsPerUnit !== undefined ? limit : null;
	}
	const requests = /requests_per_unit:(\d+)/.exec(limit);
	const unit = /unit:([A-Z]+)/.exec(limit);
	if (!requests || !unit) return null;
	return {requestsPerUnit: Number(requests[1]), unit: unit[1]};
}

// The rule that a refusal named: {key, limit, name, place, remaining, resetSeconds, neverPasses},
// and whether a policy decided.
function saidBy(value) {
	const found = typeof value?.rule === 'string' ? {...value, key: value.rule} : (value?.rule ?? value);
	if (typeof found?.key !== 'string' || typeof found.limit !== 'string') return null;
	const seconds = Number(found.resetSeconds ?? NaN);
	return {
		key: found.key,
		limit: found.limit,
		name: String(found.name ?? ''),
		place: String(found.place ?? ''),
		remaining: Number(found.remaining ?? 0),
		resetSeconds: Number.isFinite(seconds) ? seconds : null,
		neverPasses: found.neverPasses === true,
		degraded: value.degraded === true || found.degraded === true,
	};
}

// The domain in the first line, and a descriptor in each line below it; or all in one line,
// as arguments of `tollgate hit`.
function readNotation(text) {
	const lines = text
		.split('\n')
		.map(line => line.trim())
		.filter(Boolean);
	if (lines.length === 0) return {problem: 'Paste something first.'};
	const words = 1 < lines.length ? [lines[0].replace(/^domain\s*:\s*/, ''), ...lines.slice(1)] : wordsOf(lines[0]);
	const [domain, ...texts] = words;
	if (domain.includes('=') || texts.length === 0) {
		return {
			problem: 'Expected the domain, and below it a line for each descriptor, such as user=ann,path=/login.',
		};
	}
	const descriptors = [];
	for (const line of texts) {
		const entries = readDescriptor(line);
		if (!entries) return {problem: `Expected a descriptor such as user=ann,path=/login, not: ${line}`};
		descriptors.push({entries});
	}
	return {call: {domain, descriptors}, said: null};
}

function wordsOf(line) {
	const words = line.split(/\s+/);
	const flag = words.indexOf('--domain');
	const named = flag === -1 ? [] : words.splice(flag, 2).slice(1);
	return [...named, ...words.filter(word => !['tollgate', 'hit', 'explain', '$', 'domain:'].includes(word))];
}

// The entries of `key=value,key=value`, where `\,` stands for a comma; null if one has no key.
function readDescriptor(text) {
	const pairs = [''];
	for (let index = 0; index < text.length; index += 1) {
		if (text.startsWith('\\,', index)) {
			pairs[pairs.length - 1] += ',';
			index += 1;
		} else if (text[index] === ',') pairs.push('');
		else pairs[pairs.length - 1] += text[index];
	}
	const entries = [];
	for (const pair of pairs) {
		const equals = pair.indexOf('=');
		if (equals < 1) return null;
		entries.push({key: pair.slice(0, equals), value: pair.slice(equals + 1)});
	}
	return entries;
}

// The call in the parameters of an address; null if there is none.
export function readParameters(parameters) {
	if (parameters.has('call')) return read(parameters.get('call')).call ?? null;
	const descriptors = [];
	for (const text of parameters.getAll('descriptor')) {
		const entries = readDescriptor(text);
		if (entries) descriptors.push({entries});
	}
	const domain = parameters.get('domain');
	if (domain === null || descriptors.length === 0) return null;
	const hits = Number(parameters.get('hits'));
	return {domain, descriptors, ...(1 < hits ? {hitsAddend: hits} : {})};
}
