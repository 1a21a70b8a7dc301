// What workerd itself costs: the same answer to everything.
export default {
  fetch() {
    return new Response("1");
  },
};
