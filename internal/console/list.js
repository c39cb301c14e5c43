// The number of messages that the list shows.
const longest = 200;

// List is the table of the last messages, newest first. Rows that are added between two frames of
// the screen appear together.
export class List {
  constructor(body) {
    this.body = body;
    this.added = []; // newest first
  }

  // add adds a row with the given cells: texts, or [text, class].
  add(...cells) {
    this.added.unshift(cells);
    if (this.added.length > longest) this.added.pop();
  }

  draw() {
    const rows = this.added.splice(0).map((cells) => {
      const row = document.createElement("tr");
      for (const cell of cells) {
        const [text, name] = [cell].flat();
        row.insertCell().textContent = text;
        if (name) row.lastChild.className = name;
      }
      return row;
    });
    this.body.prepend(...rows);
    while (this.body.rows.length > longest) this.body.lastChild.remove();
  }

  clear() {
    this.added = [];
    this.body.replaceChildren();
  }
}
