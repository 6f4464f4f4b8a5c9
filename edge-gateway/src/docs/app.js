// Shows /openapi.json, and sends requests to this edge. Everything from the document is put in as text;
// the key is in its input field and nowhere else.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options", "trace"];
const $ = (id) => document.getElementById(id);

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

class Page {
  constructor(api) {
    this.api = api;
    this.operations = [];
  }

  /** What a `$ref` leads to. */
  resolve(value) {
    for (let steps = 0; value && value.$ref && steps < 20; steps += 1) {
      const path = value.$ref.slice(2).split("/");
      value = path.reduce((at, part) => at?.[part.replaceAll("~1", "/").replaceAll("~0", "~")], this.api);
    }
    return value ?? {};
  }

  /** A type in a few words. */
  type(schema) {
    if (schema.$ref) {
      return schema.$ref.split("/").pop();
    }
    if (schema.type === "array") {
      return `list of ${this.type(schema.items ?? {})}`;
    }
    if (schema.type === "object" && schema.additionalProperties && !schema.properties) {
      return `map of ${this.type(schema.additionalProperties)}`;
    }
    return schema.format ?? schema.type ?? "anything";
  }

  fields(schema, depth) {
    const object = this.resolve(schema);
    if (object.type === "array") {
      return this.fields(object.items ?? {}, depth);
    }
    const rows = Object.entries(object.properties ?? {}).map(([name, property]) => {
      const inner = this.resolve(property.items ?? property);
      const nested = inner.properties && depth < 3
        ? make("details", {}, make("summary", {}, "fields"), this.fields(inner, depth + 1))
        : null;
      const required = (object.required ?? []).includes(name);
      return make("tr", {},
        make("td", {}, make("code", {}, name), required ? make("span", { className: "bad", title: "required" }, " *") : null),
        make("td", { className: "soft" }, this.type(property)),
        make("td", {}, make("div", { className: "text" }, property.description ?? ""),
          (inner.enum ?? property.enum) ? make("code", { className: "soft" }, (inner.enum ?? property.enum).join(" | ")) : null,
          nested));
    });
    return rows.length ? make("table", {}, make("tbody", {}, ...rows)) : make("p", { className: "soft" }, this.type(object));
  }

  parameters(list) {
    const rows = list.map((parameter) => make("tr", {},
      make("td", {}, make("code", {}, parameter.name), parameter.required ? make("span", { className: "bad" }, " *") : null),
      make("td", { className: "soft" }, `${parameter.in}, ${this.type(parameter.schema ?? {})}`),
      make("td", { className: "text" }, parameter.description ?? "")));
    return make("table", {}, make("tbody", {}, ...rows));
  }

  answers(responses) {
    return Object.entries(responses).map(([status, reference]) => {
      const response = this.resolve(reference);
      const parts = Object.entries(response.content ?? {}).map(([type, content]) => make("div", {},
        make("p", { className: "soft" }, type),
        content.example === undefined ? null : make("pre", {}, shown(content.example)),
        status === "200" && content.schema ? make("details", {}, make("summary", {}, "fields"), this.fields(content.schema, 0)) : null));
      return make("details", { open: status === "200" },
        make("summary", {}, make("code", { className: status.startsWith("2") ? "good" : "bad" }, status), ` ${response.description ?? ""}`),
        ...parts);
    });
  }

  tryIt(method, path, operation, parameters) {
    const inputs = parameters.map((parameter) => {
      const example = parameter.schema?.examples?.[0] ?? "";
      const fresh = parameter.name === "Idempotency-Key" ? crypto.randomUUID() : "";
      const input = make("input", { value: parameter.required ? String(example || fresh) : "", autocomplete: "off" });
      return { parameter, input };
    });
    const [type, content] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
    const body = type ? make("textarea", { value: shown(content.example ?? ""), spellcheck: false }) : null;
    const streams = Boolean(operation.responses?.["200"]?.content?.["text/event-stream"]);
    const send = make("button", { type: "button" }, "Send");
    const stop = make("button", { type: "button", className: "plain", hidden: true }, "Stop");
    const line = make("p", { className: "soft" });
    const output = make("pre", { hidden: true });
    let underWay = null;
    stop.addEventListener("click", () => underWay?.abort());
    send.addEventListener("click", async () => {
      underWay?.abort();
      underWay = new AbortController();
      const { signal } = underWay;
      const headers = new Headers();
      const query = new URLSearchParams();
      let target = path;
      for (const { parameter, input } of inputs) {
        if (parameter.in === "path") {
          target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
        } else if (input.value !== "" && parameter.in === "query") {
          const values = parameter.schema?.type === "array" ? input.value.split(",") : [input.value];
          values.forEach((value) => query.append(parameter.name, value));
        } else if (input.value !== "") {
          headers.set(parameter.name, input.value);
        }
      }
      if ($("key").value && operation.security?.length !== 0) {
        headers.set("Authorization", `Bearer ${$("key").value}`);
      }
      if (body?.value) {
        headers.set("Content-Type", type === "*/*" ? "application/octet-stream" : type);
      }
      if (streams) {
        headers.set("Accept", "text/event-stream");
      }
      const url = query.size ? `${target}?${query}` : target;
      output.hidden = false;
      output.textContent = "";
      line.textContent = "Under way…";
      stop.hidden = !streams;
      const began = performance.now();
      try {
        const answer = await fetch(url, { method: method.toUpperCase(), headers, body: body?.value || undefined, signal, credentials: "omit", cache: "no-store" });
        const took = Math.round(performance.now() - began);
        line.replaceChildren(make("strong", { className: answer.ok ? "good" : "bad" }, String(answer.status)),
          ` in ${took} ms, request ${answer.headers.get("x-request-id") ?? "without an id"}`);
        await this.read(answer, output);
      } catch (error) {
        line.textContent = signal.aborted ? "Stopped." : `No answer: ${error.message}`;
      }
      stop.hidden = true;
    });
    const rows = inputs.map(({ parameter, input }) => make("tr", {}, make("td", {}, make("label", {}, make("code", {}, parameter.name), " ", input))));
    return make("details", {}, make("summary", {}, "Try it"),
      make("table", {}, make("tbody", {}, ...rows)),
      body ? make("label", {}, make("span", { className: "soft" }, "Body"), body) : null,
      make("p", {}, send, " ", stop), line, output);
  }

  /** Shows a body as it comes, and JSON with line breaks once it is all there. */
  async read(answer, output) {
    const reader = answer.body?.getReader();
    const decoder = new TextDecoder();
    let text = "";
    for (let part = await reader?.read(); part && !part.done; part = await reader.read()) {
      text += decoder.decode(part.value, { stream: true });
      output.textContent = text;
    }
    if (/[/+]json/.test(answer.headers.get("content-type") ?? "")) {
      try {
        output.textContent = JSON.stringify(JSON.parse(text), null, 2);
      } catch {
        output.textContent = text;
      }
    }
  }

  operation(method, path, operation) {
    const parameters = (operation.parameters ?? []).map((parameter) => this.resolve(parameter));
    const bodies = Object.entries(operation.requestBody?.content ?? {});
    const section = make("details", { className: "operation", id: operation.operationId },
      make("summary", {}, make("span", { className: "method" }, method.toUpperCase()), make("code", {}, path),
        make("h3", {}, operation.summary ?? "")),
      make("div", { className: "inside" },
        make("p", { className: "text" }, operation.description ?? ""),
        operation.security?.length === 0 ? make("p", { className: "soft" }, "Needs no key.") : null,
        parameters.length ? make("h4", {}, "Parameters") : null,
        parameters.length ? this.parameters(parameters) : null,
        ...bodies.flatMap(([type, content]) => [
          make("h4", {}, `Body, ${type}`), this.fields(content.schema ?? {}, 0),
          content.example === undefined ? null : make("pre", {}, shown(content.example))]),
        make("h4", {}, "Answers"), ...this.answers(operation.responses ?? {}),
        this.tryIt(method, path, operation, parameters)));
    const link = make("a", { href: `#${operation.operationId}` }, operation.summary ?? operation.operationId);
    link.addEventListener("click", () => { section.open = true; });
    const words = [method, path, operation.summary, operation.description, operation.operationId].join(" ").toLowerCase();
    this.operations.push({ section, link, words });
    return { section, link };
  }

  show() {
    const { info, paths, tags = [] } = this.api;
    $("version").textContent = info.version ?? "";
    const main = [make("p", { className: "text" }, info.description ?? ""),
      make("p", {}, make("a", { href: "/openapi.json" }, "/openapi.json"), " is what this page shows.")];
    const index = [];
    for (const tag of tags) {
      const here = Object.entries(paths).flatMap(([path, methods]) => METHODS
        .filter((method) => methods[method]?.tags?.includes(tag.name))
        .map((method) => this.operation(method, path, methods[method])));
      const heading = make("h2", {}, tag.name);
      main.push(make("section", {}, heading, make("p", { className: "soft text" }, tag.description ?? ""), ...here.map(({ section }) => section)));
      index.push(make("div", {}, make("strong", {}, tag.name), ...here.map(({ link }) => link)));
    }
    $("main").replaceChildren(...main);
    $("index").replaceChildren(...index);
    this.open();
  }

  open() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target?.matches("details.operation")) {
      target.open = true;
      target.scrollIntoView();
    }
  }

  search(text) {
    const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { section, link, words } of this.operations) {
      const hidden = !wanted.every((word) => words.includes(word));
      section.hidden = hidden;
      link.hidden = hidden;
    }
    for (const group of document.querySelectorAll("main > section, nav > div")) {
      group.hidden = !group.querySelector("details.operation:not([hidden]), a:not([hidden])");
    }
  }
}

async function start() {
  try {
    const page = new Page(await (await fetch("/openapi.json", { credentials: "omit" })).json());
    page.show();
    $("search").addEventListener("input", (event) => page.search(event.target.value));
    window.addEventListener("hashchange", () => page.open());
  } catch (error) {
    $("status").textContent = `The document cannot be read: ${error.message}`;
  }
}

start();
