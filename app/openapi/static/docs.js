// Nothing leaves for elsewhere: no validator of the maker's, no address in the page's own query.
SwaggerUIBundle({
  dom_id: "#ui",
  url: "/openapi.json",
  deepLinking: true,
  queryConfigEnabled: false,
  validatorUrl: null,
  persistAuthorization: false,
});
