package neighbours;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.util.Set;
import me.chanjar.weixin.common.util.http.apache.ApacheHttpClientBuilder;
import org.apache.http.HttpEntityEnclosingRequest;
import org.apache.http.HttpResponse;
import org.apache.http.client.methods.HttpGet;
import org.apache.http.client.methods.HttpPost;
import org.apache.http.client.methods.HttpUriRequest;
import org.apache.http.client.protocol.HttpClientContext;
import org.apache.http.conn.ssl.SSLConnectionSocketFactory;
import org.apache.http.entity.BufferedHttpEntity;
import org.apache.http.entity.ContentType;
import org.apache.http.entity.StringEntity;
import org.apache.http.impl.client.CloseableHttpClient;
import org.apache.http.impl.client.HttpClients;
import org.apache.http.client.HttpRequestRetryHandler;
import org.apache.http.conn.ConnectionKeepAliveStrategy;
import org.apache.http.client.methods.CloseableHttpResponse;
import org.apache.http.protocol.HttpContext;
import org.apache.http.util.EntityUtils;

/** The HTTP client that WxJava is given (its own way of extension), which sees every answer; and the calls through the mesh. */
final class Wire implements ApacheHttpClientBuilder {
  private static final Set<Integer> TOKEN_REFUSED = Set.of(40001, 40014, 42001);
  private final Events events;
  private final CloseableHttpClient mesh = HttpClients.createDefault();
  private final Settings settings;
  private int meshCalls;

  Wire(Settings settings, Events events) {
    this.settings = settings;
    this.events = events;
  }

  @Override
  public CloseableHttpClient build() {
    return HttpClients.custom().addInterceptorLast(this::seen).build();
  }

  private void seen(HttpResponse response, HttpContext context) throws IOException {
    if (response.getEntity() == null) {
      return;
    }
    // The library reads the body again.
    BufferedHttpEntity body = new BufferedHttpEntity(response.getEntity());
    response.setEntity(body);
    int errcode = errcode(EntityUtils.toString(body));
    String uri = HttpClientContext.adapt(context).getRequest().getRequestLine().getUri();
    if (uri.startsWith("/cgi-bin/token") || uri.startsWith("/cgi-bin/stable_token")) {
      events.tokenCall(response.getStatusLine().getStatusCode() == 200 && errcode == 0, errcode);
    } else if (TOKEN_REFUSED.contains(errcode)) {
      events.rejected("beside", errcode);
    }
  }

  /** A plain call without a token: GET and POST in turn. */
  void throughTheMesh() {
    HttpUriRequest request;
    if (meshCalls++ % 2 == 0) {
      request = new HttpGet(settings.mesh() + "/cgi-bin/getcallbackip");
    } else {
      request = new HttpPost(settings.mesh() + "/cgi-bin/message/template/send");
      ((HttpEntityEnclosingRequest) request).setEntity(new StringEntity("{\"touser\":\"o1\"}", ContentType.APPLICATION_JSON));
    }
    request.setHeader("Host", "api.weixin.qq.com");
    try (CloseableHttpResponse response = mesh.execute(request)) {
      String body = response.getEntity() == null ? "" : EntityUtils.toString(response.getEntity());
      int status = response.getStatusLine().getStatusCode();
      if (status != 200) {
        events.call("mesh", null, "status " + status);
        return;
      }
      int errcode = errcode(body);
      if (TOKEN_REFUSED.contains(errcode)) {
        events.rejected("mesh", errcode);
      }
      events.call("mesh", errcode, null);
    } catch (IOException e) {
      events.call("mesh", null, e.getClass().getSimpleName());
    }
  }

  /** 0 where the answer has none; it may be a text, or sit in base_resp. */
  private static int errcode(String body) {
    try {
      JsonObject object = JsonParser.parseString(body).getAsJsonObject();
      JsonElement code = object.has("base_resp") ? object.getAsJsonObject("base_resp").get("errcode") : object.get("errcode");
      return code == null ? 0 : code.getAsInt();
    } catch (RuntimeException e) {
      return 0;
    }
  }

  // The interface's other settings: proxies, TLS and timeouts have no part here.
  @Override public ApacheHttpClientBuilder httpProxyHost(String host) { return this; }
  @Override public ApacheHttpClientBuilder httpProxyPort(int port) { return this; }
  @Override public ApacheHttpClientBuilder httpProxyUsername(String name) { return this; }
  @Override public ApacheHttpClientBuilder httpProxyPassword(String password) { return this; }
  @Override public ApacheHttpClientBuilder sslConnectionSocketFactory(SSLConnectionSocketFactory factory) { return this; }
  @Override public ApacheHttpClientBuilder httpRequestRetryHandler(HttpRequestRetryHandler handler) { return this; }
  @Override public ApacheHttpClientBuilder keepAliveStrategy(ConnectionKeepAliveStrategy strategy) { return this; }
}
