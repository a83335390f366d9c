"use strict";

// "Send empty value" is off at first: an empty optional field is not sent.
const emptyValuesAreNotSent = () => ({
  wrapComponents: {
    ParameterIncludeEmpty: (Original, { React }) => (props) =>
      React.createElement(Original, {
        ...props,
        isIncludedOptions: { ...props.isIncludedOptions, defaultValue: false },
      }),
  },
});

// Swagger UI shows the status text of an error, such as "Unauthorized". Show the detail of the problem document instead.
function showDetail(response) {
  if (!response.ok && (response.headers["content-type"] || "").startsWith("application/problem+json")) {
    response.statusText = JSON.parse(response.text).detail;
  }
  return response;
}

window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  plugins: [emptyValuesAreNotSent],
  responseInterceptor: showDetail,
});
