// Repeats work while a page is open, visible and not paused.

let paused = false;
const waiting = new Set();
const failures = new Map();
let showFailures = () => {};

export function setPaused(value) {
	paused = value;
	wake();
}

// Called with all present failures whenever these change.
export function whenFailing(listener) {
	showFailures = listener;
}

// Shows the failure of a part of the page, or that it works again.
function report(part, failure) {
	if (failure) failures.set(part, failure);
	else if (!failures.delete(part)) return;
	showFailures([...failures.values()]);
}

export function clearFailures() {
	failures.clear();
	showFailures([]);
}

function wake() {
	if (paused || document.hidden) return;
	for (const resume of waiting) resume();
	waiting.clear();
}
document.addEventListener('visibilitychange', wake);

function awake() {
	if (!paused && !document.hidden) return undefined;
	return new Promise(resolve => waiting.add(resolve));
}

// Does `work` now, and again `seconds` after its end, until `signal`. A failure is shown under
// the name `part`. Returns a function that does the work at once, also while paused.
export function every(part, seconds, signal, work) {
	let isWanted = false;
	let wakeUp = () => {};
	signal.addEventListener(
		'abort',
		() => {
			report(part, null);
			wakeUp();
		},
		{once: true},
	);
	(async () => {
		while (!signal.aborted) {
			isWanted = false;
			try {
				await work();
				report(part, null);
			} catch (failure) {
				if (signal.aborted) return;
				report(part, asFailure(failure));
			}
			if (!isWanted) {
				await new Promise(resolve => {
					wakeUp = resolve;
					setTimeout(resolve, 1000 * seconds);
				});
			}
			if (!isWanted && !signal.aborted) await awake();
		}
	})();
	return () => {
		isWanted = true;
		wakeUp();
	};
}

// An error of this page itself is shown as one.
function asFailure(error) {
	if (error.detail !== undefined) return error;
	console.error(error);
	const advice = 'This is a mistake in the page: please report it.';
	return {detail: String(error), advice};
}
