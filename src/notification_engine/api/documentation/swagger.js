// Its own file, so that the page's policy allows no script in the page.
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  layout: "BaseLayout",
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
  showCommonExtensions: true,
  showExtensions: true,
  validatorUrl: null,
});
