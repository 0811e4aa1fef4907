const description = await (await fetch("/openapi.json")).json();

// The errors that endpoints share are described once, at the top.
for (const path of Object.values(description.paths)) {
  for (const { responses } of Object.values(path)) {
    for (const status in responses) {
      if (responses[status].$ref) delete responses[status];
    }
  }
}

SwaggerUIBundle({
  spec: description,
  dom_id: "#docs",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
