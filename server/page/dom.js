// Elements. Text comes in as text nodes only: what a model or a client wrote never becomes markup.
const byId = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
const element = (name, attributes = {}, ...children) =>
    fill(document.createElement(name), attributes, children);
const shape = (name, attributes = {}, ...children) =>
    fill(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);

function setText(id, text) {
  const node = byId(id);
  if (node.textContent !== text) node.textContent = text;
}

