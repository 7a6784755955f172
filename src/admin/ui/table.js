// Tables that are brought up to date in place, so that the focus and a selection survive.

import {el, setText} from './dom.js';

// A column is {title, cell(item), kind}. `kind` is `number` for numbers, `fixed` for cells that
// are made once for each key; cells are text or nodes. `bar(item)` is the share of the cell that
// is coloured, from 0 to 1.
// The table is {element, update(items)}; `empty` is shown in its place if there are no items.
export function table({caption, columns, key, empty, rowClass = () => ''}) {
	const head = el(
		'tr',
		{},
		columns.map(column => el('th', {scope: 'col', class: column.kind, title: column.hint}, column.title)),
	);
	const body = el('tbody');
	const grid = el('table', {}, el('caption', {class: 'hidden'}, caption), el('thead', {}, head), body);
	const element = el('div', {class: 'table'}, grid);
	const rows = new Map();

	function update(items) {
		element.replaceChildren(...(items.length || !empty ? [grid] : [empty()]));
		const focused = body.contains(document.activeElement) ? document.activeElement : null;
		const left = new Set(rows.keys());
		let next = body.firstChild;
		for (const item of items) {
			const name = key(item);
			left.delete(name);
			const row = rows.get(name) ?? makeRow(name);
			row.element.className = rowClass(item);
			for (const [index, column] of columns.entries()) fillCell(row.cells[index], column, item);
			if (row.element === next) next = next.nextSibling;
			else body.insertBefore(row.element, next);
		}
		for (const name of left) {
			rows.get(name).element.remove();
			rows.delete(name);
		}
		if (focused && focused !== document.activeElement && body.contains(focused)) {
			focused.focus({preventScroll: true});
		}
	}

	function makeRow(name) {
		const cells = columns.map(column => el('td', {class: column.kind}));
		const row = {element: el('tr', {}, cells), cells};
		rows.set(name, row);
		return row;
	}

	return {element, update};
}

function fillCell(cell, column, item) {
	if (column.bar) {
		cell.classList.add('bar');
		cell.style.setProperty('--share', `${(100 * Math.min(1, column.bar(item))).toFixed(1)}%`);
	}
	if (column.kind?.startsWith('fixed') && cell.hasChildNodes()) return;
	const content = column.cell(item);
	if (content instanceof Node) cell.replaceChildren(content);
	else setText(cell, content ?? '');
}
