// Swagger UI, with the server's own document and nothing from elsewhere.
window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: false,
  tryItOutEnabled: true,
  validatorUrl: null,
  persistAuthorization: false,
  requestSnippetsEnabled: true,
  queryConfigEnabled: false,
});
