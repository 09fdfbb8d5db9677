// The streams: a list, and each as its picture.

import { html } from "../html.js";
import * as api from "../api.js";
import { Table } from "../parts/table.js";

export const view = {
  title: "Streams",
  async open({ signal }) {
    const { data } = await api.get("api/platform/v1/streams", {}, signal);
    return html`<header class="head"><h1>Streams</h1></header>
      <${Table} caption="Streams" rows=${data} columns=${[{ title: "Name", main: true, cell: (row) => row.id }, { title: "State", cell: (row) => row.state }]} />`;
  },
};
