import jakarta.servlet.*;
import jakarta.servlet.http.*;
import java.io.IOException;
import java.net.URI;
import java.net.http.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.Function;
import java.util.stream.Collectors;

/** Asks tollgate before each request. `entries` makes the descriptor of a request, in order.
 *  Without an answer within `millis`, a request passes only if `failOpen`. */
public record RateLimitFilter(URI url, String domain, long millis, boolean failOpen,
        Function<HttpServletRequest, LinkedHashMap<String, String>> entries) implements Filter {
    private static final HttpClient CLIENT =
            HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    @Override
    public void doFilter(ServletRequest request, ServletResponse response, FilterChain chain)
            throws IOException, ServletException {
        HttpResponse<Void> answer = ask(entries.apply((HttpServletRequest) request));
        int status = answer == null ? 503 : answer.statusCode();
        // An answer 4xx means that the question was wrong. It never lets a request pass.
        if (status == 200 || (status >= 500 && failOpen)) {
            chain.doFilter(request, response);
            return;
        }
        HttpServletResponse refusal = (HttpServletResponse) response;
        refusal.setStatus(status == 429 ? 429 : 503);
        if (answer != null) {
            for (String name : List.of("Retry-After", "RateLimit", "RateLimit-Policy")) {
                answer.headers().firstValue(name).ifPresent(it -> refusal.setHeader(name, it));
            }
        }
    }

    private HttpResponse<Void> ask(Map<String, String> entries) {
        String list = entries.entrySet().stream().map(it -> "{\"key\":" + quote(it.getKey())
                + ",\"value\":" + quote(it.getValue()) + "}").collect(Collectors.joining(","));
        String json = "{\"domain\":" + quote(domain) + ",\"descriptors\":[{\"entries\":[" + list + "]}]}";
        var body = HttpRequest.BodyPublishers.ofString(json);
        var call = CLIENT.sendAsync(HttpRequest.newBuilder(url).POST(body).build(),
                HttpResponse.BodyHandlers.discarding());
        try {
            return call.get(millis, TimeUnit.MILLISECONDS);
        } catch (ExecutionException | TimeoutException | InterruptedException error) {
            call.cancel(true);
            if (error instanceof InterruptedException) {
                Thread.currentThread().interrupt();
            }
            return null;
        }
    }

    private static String quote(String text) {
        return text.chars().mapToObj(it -> it < ' ' || it == '"' || it == '\\'
                ? String.format("\\u%04x", it) : String.valueOf((char) it))
                .collect(Collectors.joining("", "\"", "\""));
    }
}
