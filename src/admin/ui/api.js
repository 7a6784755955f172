// Calls of the admin API. The token is in memory alone: a reload of the page forgets it.

let token = null;
let onLogout = () => {};

export function hasToken() {
	return token !== null;
}

export function setToken(text) {
	token = text;
}

// Called when the token is not known any more.
export function whenLoggedOut(listener) {
	onLogout = listener;
}

const PATIENCE = 10_000;

// What to do about an error, by its type.
const ADVICE = {
	'/problems/cross-site': 'Open this page by its own address.',
	'/problems/late': 'The process is short of CPU time. This page tries again.',
	'/problems/no-memory': 'The process is short of memory for calls. This page tries again.',
	'/problems/no-rules': 'Find mistakes in the rules with: tollgate check RULES',
	'/problems/store': 'The page Health has the state of the store.',
	'/problems/unknown-rule': 'Its name has changed, or it was removed: the page Rules has all.',
	'/problems/wrong-host': 'Use an address, or add this name to ADMIN_NAMES.',
};

// An error of the API, or of the way to it.
class Failure extends Error {
	constructor(status, type, detail, advice) {
		super(detail);
		Object.assign(this, {status, type, detail, advice});
	}
}

async function failure(response) {
	let problem = {};
	try {
		problem = await response.json();
	} catch {
		// Something between the browser and tollgate answered.
	}
	const mistakes = (problem.errors ?? []).map(
		mistake => `${mistake.parameter ?? mistake.pointer ?? ''}: ${mistake.detail}`,
	);
	const detail = [problem.detail ?? `status ${response.status}`, ...mistakes].join('; ');
	const wait = response.headers.get('retry-after');
	const advice = ADVICE[problem.type] ?? (wait ? `Possible again in ${wait} s.` : 'The log has more.');
	return new Failure(response.status, problem.type ?? '', detail, advice);
}

function silence(error) {
	const detail =
		error.name === 'TimeoutError'
			? `no answer from ${location.host} within ${PATIENCE / 1000} s`
			: `no answer from ${location.host}`;
	const advice = 'Does the process run, and does a port forward still work? This page tries again.';
	return new Failure(0, 'silence', detail, advice);
}

// Calls an operation and returns its answer. With a body it is a POST.
export async function call(path, {query = {}, body, signal} = {}) {
	const url = new URL(path, document.baseURI);
	url.hash = '';
	for (const [name, text] of Object.entries(query)) {
		if (text != null && text !== '') url.searchParams.set(name, text);
	}
	const headers = token === null ? {} : {authorization: `Bearer ${token}`};
	const timeout = AbortSignal.timeout(PATIENCE);
	let response;
	try {
		response = await fetch(url, {
			method: body === undefined ? 'GET' : 'POST',
			headers: body === undefined ? headers : {...headers, 'content-type': 'application/json'},
			body: body === undefined ? undefined : JSON.stringify(body),
			credentials: 'omit',
			cache: 'no-store',
			redirect: 'error',
			signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
		});
		if (response.ok) return await response.json();
	} catch (error) {
		if (signal?.aborted) throw error;
		throw silence(error);
	}
	const failed = await failure(response);
	if (failed.status === 401 && token !== null) {
		token = null;
		onLogout(failed);
	}
	throw failed;
}
