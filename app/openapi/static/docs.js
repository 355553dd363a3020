// The page asks no other server: it uses no validator, and ignores a URL in its own query.
SwaggerUIBundle({
  dom_id: "#ui",
  url: "/openapi.json",
  deepLinking: true,
  queryConfigEnabled: false,
  validatorUrl: null,
  persistAuthorization: false,
});
