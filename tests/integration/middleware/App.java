// A server with the servlet filter, and as much of the Servlet API as the filter uses.

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Executors;

public final class App {
    record Request(HttpExchange exchange) implements HttpServletRequest {
        @Override
        public String getHeader(String name) {
            return exchange.getRequestHeaders().getFirst(name);
        }
    }

    static final class Response implements HttpServletResponse {
        private final HttpExchange exchange;
        private int status = 200;

        Response(HttpExchange exchange) {
            this.exchange = exchange;
        }

        @Override
        public void setStatus(int status) {
            this.status = status;
        }

        @Override
        public void setHeader(String name, String value) {
            exchange.getResponseHeaders().set(name, value);
        }
    }

    private static RateLimitFilter limited(URI url, long millis, boolean failOpen) {
        return new RateLimitFilter(url, "shop", millis, failOpen, request ->
                new LinkedHashMap<>(Map.of("user", request.getHeader("X-User"))));
    }

    private static void serve(RateLimitFilter filter, HttpExchange exchange) throws IOException {
        Response response = new Response(exchange);
        byte[][] body = {{}};
        try {
            filter.doFilter(new Request(exchange), response, (again, to) -> {
                body[0] = "hello".getBytes();
            });
        } catch (Exception error) {
            response.setStatus(500);
        }
        exchange.sendResponseHeaders(response.status, body[0].length == 0 ? -1 : body[0].length);
        exchange.getResponseBody().write(body[0]);
        exchange.close();
    }

    public static void main(String[] arguments) throws IOException {
        InetSocketAddress address =
                new InetSocketAddress(arguments[0], Integer.parseInt(arguments[1]));
        URI url = URI.create(arguments[2]);
        HttpServer server = HttpServer.create(address, 0);
        server.setExecutor(Executors.newCachedThreadPool());
        Map<String, RateLimitFilter> filters = Map.of(
                "/patient", limited(url, 60_000, true),
                "/open", limited(url, 300, true),
                "/closed", limited(url, 300, false));
        filters.forEach((path, filter) ->
                server.createContext(path, exchange -> serve(filter, exchange)));
        server.start();
    }
}
